"""References of a task's input to results of other tasks: `{{task}}`, `{{task.field}}`. Both sides; pure."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from pydantic import JsonValue

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


def render(text: str, value_of: Callable[[Reference], JsonValue]) -> str:
    """Return an input with the values of its references in their places.

    Args:
        text: The input as it was written; checked before, so that what is no reference is left as it is.
        value_of: Gives the value of a reference. Text is inserted as it is, anything else as JSON.
    """

    def replace(match: re.Match[str]) -> str:
        reference = None if match[0].startswith("\\") else _read(match)
        if reference is None:
            return match[0].removeprefix("\\")
        value = value_of(reference)
        return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)

    return _TOKEN.sub(replace, text)


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
