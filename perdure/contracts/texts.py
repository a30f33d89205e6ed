"""Texts as a summary shows them, and no longer than they may be. Both sides; pure."""

from pydantic_core import to_json


def one_line(text: str, limit: int = 100) -> str:
    """Return the start of a text on one line, at most `limit` characters."""
    flat = " ".join(text[: 4 * limit].split())
    return flat if len(flat) <= limit else flat[: limit - 1] + "…"


def cut(text: str, most: int) -> str:
    """Return a text, or so much of its start that it takes about `most` bytes as JSON, and a mark."""
    size = _size(text)
    if size <= most:
        return text
    kept = text
    while kept and size > most:
        kept = kept[: len(kept) * most // size]
        size = _size(kept)
    return f"{kept}…"


def _size(text: str) -> int:
    return len(to_json(text)) - len('""')
