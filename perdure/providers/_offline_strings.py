"""Strings within a schema's bounds: lengths, formats, patterns. Activity side; pure, no I/O."""

import re
from collections.abc import Iterable
from functools import lru_cache

from perdure.providers._offline_schema import Schema
from perdure.providers._offline_text import shorten

_FORMATS = {
    "date": (r"\b\d{4}-\d\d-\d\d\b", "1970-01-01"),
    "date-time": (r"\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:Z|[+-]\d\d:\d\d)", "1970-01-01T00:00:00Z"),
    "time": (r"\b\d\d:\d\d:\d\d(?:Z|[+-]\d\d:\d\d)", "00:00:00Z"),
    "duration": (r"\bP(?:\d+D)?T\d+[HMS]\b", "PT0S"),
    "email": (r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+", "unknown@example.com"),
    "uri": (r"https?://[^\s<>\"')\]]+", "https://example.com/"),
    "uuid": (
        r"\b[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\b",
        "00000000-0000-0000-0000-000000000000",
    ),
    "ipv4": (r"\b\d{1,3}(?:\.\d{1,3}){3}\b", "0.0.0.0"),
}
URL = re.compile(_FORMATS["uri"][0])
EMAIL = re.compile(_FORMATS["email"][0])
DATE = re.compile(_FORMATS["date"][0])


def fit_text(text: str, schema: Schema, corpus: str) -> str:
    """Return `text`, changed as far as the schema's format, pattern and lengths ask for it.

    Args:
        text: What should be said.
        schema: A schema of type string.
        corpus: Text in which something of a format, or for a pattern, is looked for.
    """
    if known := _FORMATS.get(str(schema.get("format", ""))):
        found = re.search(known[0], text) or re.search(known[0], corpus)
        text = found[0] if found else known[1]
    elif pattern := _compile(str(schema.get("pattern", ""))):
        words = (word.strip("\"'`.,;:()[]") for word in corpus.split())
        text = _first_match(pattern, (text, *words, *_examples(schema))) or text
    least, most = int(schema.get("minLength", 0)), schema.get("maxLength")
    if most is not None:
        text = shorten(text, int(most))
    return text + "." * (least - len(text))


@lru_cache(maxsize=256)
def _compile(pattern: str) -> re.Pattern[str] | None:
    try:
        return re.compile(pattern) if pattern else None
    except re.error:
        return None


def _examples(schema: Schema) -> tuple[str, ...]:
    given = (schema.get("default"), *schema.get("examples", ()))
    return (*(each for each in given if isinstance(each, str)), "", "a", "A", "0", "0.0")


def _first_match(pattern: re.Pattern[str], candidates: Iterable[str]) -> str | None:
    return next((each for each in candidates if pattern.search(each)), None)
