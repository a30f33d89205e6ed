"""Arguments for a tool, from its schema and the conversation. Activity side; pure, no I/O."""

import re
from collections.abc import Mapping
from typing import Any

from perdure.contracts.spec import ToolSpec
from perdure.providers._offline_answer import extract
from perdure.providers._offline_results import json_values
from perdure.providers._offline_schema import Schema, SchemaFiller, Slot
from perdure.providers._offline_strings import DATE, EMAIL, URL, fit_text
from perdure.providers._offline_text import STOP_WORDS, query_words, stem, stems, words_of
from perdure.providers._offline_view import View

QUERY_NAMES = frozenset(
    (
        "query",
        "queries",
        "q",
        "search",
        "keyword",
        "keywords",
        "term",
        "terms",
        "needle",
        "phrase",
        "pattern",
        "topic",
    )
)
_REQUEST_NAMES = frozenset(
    ("question", "task", "input", "prompt", "request", "instruction", "instructions", "goal")
)
_TEXT_NAMES = frozenset(
    (
        "text",
        "body",
        "content",
        "contents",
        "report",
        "summary",
        "answer",
        "note",
        "message",
        "markdown",
        "comment",
    )
)
_NUMBER = re.compile(r"(?<![\w.])-?\d+(?:\.\d+)?(?![\w.]*[A-Za-z_])")
_QUOTED = re.compile(r"[\"“«'`]([^\"”»'`\n]{1,200})[\"”»'`](?!\w)")
CODE = re.compile(r"(?<!\w)#?((?=[\w-]*\d)[A-Za-z0-9][\w-]*)")
"""What looks like an id: it holds a digit."""
_PROPER = re.compile(r"(?<![.!?]\s)(?<!^)\b[A-Z][\w-]*(?: [A-Z][\w-]*)*")


def is_query(name: str) -> bool:
    """Say whether a parameter of that name takes search words."""
    return bool(QUERY_NAMES & set(words_of(name)))


def fill_arguments(tool: ToolSpec, view: View, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return arguments for a call: those given, every required one, and numbers that the question names."""
    filler = SchemaFiller(tool.parameters, _ArgumentChooser(view))
    required = set(tool.parameters.get("required", ()))
    arguments: dict[str, Any] = {}
    for name, schema in tool.parameters.get("properties", {}).items():
        if name in given:
            arguments[name] = given[name]
        elif name in required or _is_number_named(name, schema, view.question):
            arguments[name] = filler.fill(schema, Slot(name=name))
    return arguments


def _is_number_named(name: str, schema: Schema, question: str) -> bool:
    return schema.get("type") in ("integer", "number") and number_near(name, question) is not None


def number_near(name: str, text: str) -> float | None:
    """Return the number that stands next to a word of `name`, as in `5 results` for `max_results`."""
    wanted = {stem(word) for word in words_of(name)}
    for match in _NUMBER.finditer(text):
        before, after = stems(text[: match.start()][-40:])[-1:], stems(text[match.end() :][:40])[:1]
        if wanted & {*before, *after}:
            return float(match[0])
    return None


class _ArgumentChooser:
    """Chooses arguments: what the question says, then what a schema suggests."""

    def __init__(self, view: View) -> None:
        self._view = view

    def choose_text(self, slot: Slot, schema: Schema) -> str:
        """Return search words, a target, a date … as the parameter's name and description ask."""
        default = schema.get("default")
        text = default if isinstance(default, str) else self._text(slot)
        return fit_text(text, schema, self._view.question)

    def _text(self, slot: Slot) -> str:
        names = set(words_of(slot.name))
        question = self._view.question
        if names & QUERY_NAMES:
            words = query_words(question, limit=12)
            return words[slot.index % len(words)] if slot.depth and words else " ".join(words) or question
        if names & _REQUEST_NAMES:
            return question
        quoted = _QUOTED.findall(question)
        if names & _TEXT_NAMES:
            return quoted[0] if quoted else extract(self._view) or question
        return self._named(slot, names) or (quoted[0] if quoted else self._subject())

    def _named(self, slot: Slot, names: set[str]) -> str | None:
        """Return what the question, or an earlier result, has of the kind that the name says."""
        question = self._view.question
        kinds = (({"url", "uri", "link", "website"}, URL), ({"email", "to", "recipient"}, EMAIL), ({"date"}, DATE))
        for kind, pattern in kinds:
            if names & kind and (found := pattern.search(question)):
                return found[0]
        if names & {"id", "number", "key", "code", "order", "ticket", "invoice"}:
            values = [*CODE.findall(question), *json_values(self._view.outcomes, slot.name)]
            return values[slot.index % len(values)] if values else None
        return None

    def _subject(self) -> str:
        question = self._view.question
        proper = [each for each in _PROPER.findall(question) if each.lower() not in STOP_WORDS]
        return proper[0] if proper else " ".join(query_words(question)) or question

    def choose_number(self, slot: Slot, schema: Schema) -> float | None:
        """Return the number named by the question, else the default or minimum, else any number there."""
        near = number_near(slot.name, self._view.question)
        if near is not None:
            return near
        given = schema.get("default", schema.get("minimum"))
        if isinstance(given, int | float):
            return float(given)
        numbers = _NUMBER.findall(self._view.question)
        return float(numbers[slot.index % len(numbers)]) if numbers else 1.0

    def choose_flag(self, slot: Slot) -> bool:
        """Return whether the question names the flag."""
        return bool({stem(word) for word in words_of(slot.name)} & set(stems(self._view.question)))

    def choose_member(self, slot: Slot, members: list[Any]) -> Any:
        """Return the member that the question names, else the first."""
        words = set(stems(self._view.question))
        return max(members, key=lambda each: len(words & set(stems(str(each)))))

    def count_items(self, slot: Slot, items: Schema) -> int:
        """Return how many search words or quotations there are to list; at least one."""
        if is_query(slot.name):
            return min(len(query_words(self._view.question)), 6) or 1
        return 1
