"""Choosing an agent for a piece of work: what is asked, and what was chosen. Both sides."""

from typing import Annotated, Literal

from pydantic import Field

from perdure.contracts._base import Contract
from perdure.contracts.usage import NO_USAGE, Usage

Strategy = Literal["rules", "model", "learned"]
Weight = Annotated[float, Field(ge=0, le=1e6, allow_inf_nan=False)]


class SelectBy(Contract):
    """How to choose an agent."""

    strategy: Strategy = "rules"
    """`rules` goes by tags and capabilities, `model` asks a model, `learned` goes by earlier outcomes."""
    tags: tuple[str, ...] = ()
    """What the agent had better have among its tags."""
    capabilities: tuple[str, ...] = ()
    """What the agent must have among its capabilities, whatever the strategy."""
    model: str | None = None
    """Asked by the strategy `model`; the first candidate's first model when None."""
    cost_weight: Weight = 1.0
    """What a dollar counts, in probability of success: by the strategy `learned`."""
    seconds_weight: Weight = 0.0
    """What a second counts, likewise."""


class SelectRequest(SelectBy):
    """Choose one of several agents for a piece of work."""

    text: str = ""
    """The start of what the agent will be asked."""
    candidates: tuple[str, ...] = ()
    """Agents, the first preferred; all of the app when empty."""
    kind: str = ""
    """The `Task.kind` of the work."""


class Selection(Contract):
    """Which agent was chosen, and why."""

    agent: str
    strategy: Strategy = "rules"
    """The one that chose: another than asked for where `note` says so."""
    kind: str = ""
    why: str = ""
    note: str = ""
    """Why the strategy that was asked for could not be used; empty when it was."""
    usage: Usage = NO_USAGE
    """Of the model that was asked, if one was."""
