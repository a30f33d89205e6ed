"""References of a task's input: `{{task}}`, `{{task.field}}`, `{{artifacts.name}}`. Both sides; pure."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from pydantic import JsonValue

ARTIFACTS = "artifacts"
"""Stands before the name of an artifact; no task can have this id."""

_TOKEN = re.compile(r"\\\{\{|\{\{(.*?)\}\}|\{\{", re.S)
_BODY = re.compile(r"\s*([A-Za-z][A-Za-z0-9_-]*)((?:\.[A-Za-z0-9_-]+)*)\s*")


@dataclass(frozen=True)
class Reference:
    """A result that an input refers to.

    Attributes:
        task: Whose result it is.
        path: Fields and positions to follow in its JSON; empty for the whole.
        text: How it is written, for people.
    """

    task: str
    path: tuple[str, ...]
    text: str

    @property
    def artifact(self) -> str | None:
        """The name of the artifact that is referred to; None where it is a task's result."""
        if self.task != ARTIFACTS:
            return None
        return self.path[0] if self.path else ""


def references(text: str) -> tuple[list[Reference], list[str]]:
    """Return the references of an input, and what looks like one and is none."""
    found: list[Reference] = []
    bad: list[str] = []
    for match in _TOKEN.finditer(text):
        if match[0].startswith("\\"):
            continue
        reference = _read(match)
        if reference is None:
            bad.append(match[0] if match[1] is not None else text[match.start() : match.start() + 20])
        else:
            found.append(reference)
    return found, bad


def render(text: str, value_of: Callable[[Reference], "JsonValue | Reference"]) -> list[str | Reference]:
    """Return an input with the values of its references in their places, as text and references that stay.

    Args:
        text: The input as it was written; checked before, so that what is no reference is left as it is.
        value_of: Gives the value of a reference, or the reference itself where it shall stay. Text is inserted
            as it is, anything else as JSON.
    """
    pieces: list[str | Reference] = []
    pending, end = "", 0
    for match in _TOKEN.finditer(text):
        pending += text[end : match.start()]
        end = match.end()
        reference = None if match[0].startswith("\\") else _read(match)
        value = match[0].removeprefix("\\") if reference is None else value_of(reference)
        if isinstance(value, Reference):
            pieces += [pending, value] if pending else [value]
            pending = ""
        else:
            pending += as_text(value)
    pending += text[end:]
    return [*pieces, pending] if pending or not pieces else pieces


def as_text(value: JsonValue) -> str:
    """Return a value as an input has it."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def follow(value: JsonValue, path: tuple[str, ...]) -> JsonValue:
    """Return what a path leads to.

    Raises:
        LookupError: It leads nowhere; the text says how far it goes.
    """
    for depth, name in enumerate(path):
        if isinstance(value, dict) and name in value:
            value = cast("dict[str, JsonValue]", value)[name]
        elif isinstance(value, list) and name.isdecimal() and int(name) < len(value):
            value = cast("list[JsonValue]", value)[int(name)]
        else:
            what = "it" if depth == 0 else path[depth - 1]
            raise LookupError(f"there is no {'.'.join(path[: depth + 1])!r}: {what} is {_kind(value)}")
    return value


def _kind(value: JsonValue) -> str:
    if isinstance(value, dict):
        return "an object without it"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    return "text" if isinstance(value, str) else json.dumps(value)


def _read(match: re.Match[str]) -> Reference | None:
    body = None if match[1] is None else _BODY.fullmatch(match[1])
    if body is None:
        return None
    return Reference(body[1], tuple(body[2].split(".")[1:]), match[0])
