"""What tools returned, read as evidence: prose, numbered lines, search hits, lists, JSON. Activity side; pure."""

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, cast

from perdure.providers._offline_passages import Document, Passage
from perdure.providers._offline_text import words_of

TARGET_NAMES = (
    "path",
    "file",
    "filename",
    "filepath",
    "file_path",
    "url",
    "uri",
    "link",
    "source",
    "id",
    "document",
)
"""Names under which a call, or a record, says which thing it is about."""

LIST_VERBS = frozenset(("list", "ls", "tree", "browse", "index", "explore", "search", "find", "grep", "glob"))
"""Words in the name of a tool that tells what there is."""

HIT = re.compile(r"([^\s:][^:\n]{0,300}?):(\d{1,7})(?::\d+)?: ?(.*)")
"""A line of a search result: path, line number, text."""

LISTED = re.compile(r"\s*(?:[-*] )?(\S+)(?:\s+\(?[\d., ]*\d\s*[kKMG]?i?(?:B|bytes|lines)?\)?)?\s*")
"""A line of a list of files: one word, perhaps a size."""

_NUMBERED = re.compile(r"\s{0,8}(\d{1,7})(?:: |:$|\t| ?\| ?)(.*)")
_NOTHING = re.compile(r"\s*(?:no|nothing|none|0)\b[^\n]{0,300}\s*|\s*", re.IGNORECASE)
_DEEPEST = 20
_MOST_VALUE_CHARS = 80


@dataclass(frozen=True, slots=True)
class Outcome:
    """A tool call that was answered."""

    name: str
    arguments: dict[str, Any]
    text: str
    is_error: bool

    @property
    def is_list(self) -> bool:
        """Whether the result says what there is, rather than what something holds."""
        return self.target is None or bool(LIST_VERBS & set(words_of(self.name)))

    @property
    def target(self) -> str | None:
        """The thing that the call was about, if an argument says so."""
        named = (self.arguments.get(name) for name in TARGET_NAMES)
        return next((value for value in named if isinstance(value, str) and value), None)


def value_of(outcome: Outcome) -> str | None:
    """Return a result that is short and stands for itself, such as a number; None for any other."""
    text = outcome.text.strip()
    is_short = text != "" and "\n" not in text and len(text) <= _MOST_VALUE_CHARS and parse_json(text) is None
    is_nothing = text != "0" and _NOTHING.fullmatch(text)
    return text if is_short and not is_nothing and not outcome.is_error else None


def parse_json(text: str) -> Any:
    """Return the JSON object or array that `text` is, or None."""
    if text.lstrip()[:1] not in ("{", "["):
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def plain_document(source: str, text: str) -> Document:
    """Return a document of text whose line numbers aren't known."""
    return Document(source, tuple((None, line) for line in text.splitlines()))


def read_outcome(outcome: Outcome) -> Iterator[Document | Passage]:
    """Yield what can be quoted from a tool's result."""
    if outcome.is_list and _NOTHING.fullmatch(outcome.text):
        return
    source = outcome.target or outcome.name
    data = parse_json(outcome.text)
    if data is not None:
        yield from _records(data, source)
        return
    lines = outcome.text.splitlines()
    hits = [match for match in map(HIT.match, lines) if match] if outcome.is_list else []
    if hits and len(hits) >= len(lines) // 2:
        for hit in hits:
            yield Passage(hit[3].strip(" #*->|`"), hit[1], int(hit[2]), hit[1])
    elif not outcome.is_list:
        yield Document(source, _numbered(lines))
    elif prose := [line for line in lines if not line.strip() or not LISTED.fullmatch(line)]:
        yield plain_document(source, "\n".join(prose))


def _numbered(lines: list[str]) -> tuple[tuple[int | None, str], ...]:
    matches = [_NUMBERED.match(line) for line in lines]
    numbers = [int(match[1]) for match in matches if match]
    is_numbered = len(numbers) > len(lines) // 2 and all(
        after == before + 1 for before, after in pairwise(numbers)
    )
    if not is_numbered:
        return tuple((None, line) for line in lines)
    return tuple((int(match[1]), match[2]) for match in matches if match)


def without_read_hits(found: tuple[Document | Passage, ...]) -> tuple[Document | Passage, ...]:
    """Leave out the search hits that a document, read since, holds in full."""
    documents = [each for each in found if isinstance(each, Document)]
    lines = {(each.source, number) for each in documents for number, _ in each.lines}
    return tuple(
        each
        for each in found
        if isinstance(each, Document) or not ({(each.source, each.line), (each.source, None)} & lines)
    )


def _records(data: Any, source: str, depth: int = 0) -> Iterator[Document | Passage]:
    """Yield what JSON says: long texts as documents, the short fields of a record as one passage."""
    if depth > _DEEPEST:
        return
    if isinstance(data, list):
        items = cast("list[Any]", data)
        flat = [str(item) for item in items if not isinstance(item, dict | list)]
        if not all(LISTED.fullmatch(item) for item in flat):
            yield plain_document(source, "\n\n".join(flat))
        for item in items:
            yield from _records(item, source, depth + 1)
    elif isinstance(data, dict):
        yield from _record(cast("dict[str, Any]", data), source, depth)


def _record(record: dict[str, Any], source: str, depth: int) -> Iterator[Document | Passage]:
    named = (record.get(name) for name in TARGET_NAMES)
    source = next((value for value in named if isinstance(value, str) and value), source)
    line = record.get("line")
    short: list[str] = []
    for name, value in record.items():
        if isinstance(value, dict | list):
            yield from _records(value, source, depth + 1)
        elif isinstance(value, str) and " " in value.strip():
            yield _field(value, source, line)
        elif value not in (None, "", source) and name != "line":
            short.append(f"{name}: {value}")
    if short:
        yield Passage(", ".join(short), source, context=source)


def _field(value: str, source: str, line: Any) -> Document | Passage:
    if isinstance(line, int) and "\n" not in value:
        return Passage(value.strip(), source, line, source)
    return plain_document(source, value)


def json_values(outcomes: Iterable[Outcome], name: str) -> list[str]:
    """Return the values that JSON results have under `name`, in order, each once."""
    found: dict[str, list[str]] = defaultdict(list)
    for outcome in outcomes:
        if not outcome.is_error:
            _collect(parse_json(outcome.text), found)
    return list(dict.fromkeys(found.get(name, [])))


def _collect(data: Any, found: dict[str, list[str]], depth: int = 0) -> None:
    if depth > _DEEPEST:
        return
    if isinstance(data, list):
        for item in cast("list[Any]", data):
            _collect(item, found, depth + 1)
    elif isinstance(data, dict):
        for name, value in cast("dict[str, Any]", data).items():
            if isinstance(value, str | int) and not isinstance(value, bool):
                found[name].append(str(value))
            _collect(value, found, depth + 1)
