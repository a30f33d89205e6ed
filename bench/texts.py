"""The text that tools return and users send; the same for everybody who is measured."""

from functools import lru_cache

_WORDS = "the quick brown fox jumps over the lazy dog while a patient engineer reads what the tool returned "


@lru_cache(maxsize=8)
def page_text(page: int, size: int) -> str:
    """Return `size` characters that differ from page to page."""
    line = f"page {page:06d}: {_WORDS}"
    return (line * (size // len(line) + 1))[:size]
