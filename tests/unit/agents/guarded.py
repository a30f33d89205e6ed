"""A user's module: its annotations are text, and some names are imported for type checkers alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import date

    from perdure import ToolContext


def book(day: str, ctx: ToolContext) -> date:
    """Book a day."""
    raise NotImplementedError


def needs_date(day: date) -> str:
    """Annotated with a name that is not there at run time."""
    raise NotImplementedError
