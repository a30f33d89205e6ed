"""Words, stems and sentences for the offline model. Activity side; pure functions, no I/O."""

import re
from collections.abc import Iterator
from functools import lru_cache

_STOP = """
    a about above after again all also am an and any are as at be because been before being below between both
    but by can could did do does doing don done down during each else for from further had has have having he her
    here hers him his how i if in into is it its just let like many may me might more most much must my no nor not
    now of off on once one only or other our out over own per same shall she should so some such than that the
    their them then there these they this those through to too two under until up us use used uses using very via
    was we were what when where which while who whom whose why will with within without would yes yet you your
"""
STOP_WORDS = frozenset(_STOP.split())
"""Words that carry grammar rather than a subject."""

_REQUEST = """
    according answer answers ask check cite cites describe detail details doc docs document documents
    documentation explain file files find folder following give happen happens help information know list long
    look mean means name names note notes often overview page pages please question questions quote read
    report research say says search show source sources summarise summarize summary talk tell text thing
    things want work works write
"""
REQUEST_WORDS = frozenset(_REQUEST.split())
"""Words that say what to do with a subject; they help to choose a tool, not to rank sentences."""

WORD = re.compile(r"[^\W_]+")
_SURFACE = re.compile(r"[^\W_]+(?:[_.'-]+[^\W_]+)*")
_BOUNDARY = re.compile(r"[.!?][\"')\]*_`]*\s+(?=[\"'(\[*_`]*[^\W_a-z])")
_ABBREVIATION = re.compile(r"(?:\b(?:e\.g|i\.e|etc|cf|vs|approx|Mr|Mrs|Dr|No|Fig)|\b[A-Z])\.$")
_SUFFIXES = (
    (4, ("ations", "ation", "ions", "ion")),
    (3, ("ies", "es", "s")),
    (3, ("ing", "ed")),
    (3, ("e", "y", "i")),
)


@lru_cache(maxsize=16384)
def stem(word: str) -> str:
    """Return what `word` shares with its other forms; always a beginning of the lower-cased word."""
    root = word.lower()
    for shortest, suffixes in _SUFFIXES:
        for suffix in suffixes:
            is_plural_like = suffix != "s" or not root.endswith(("ss", "us", "is"))
            if root.endswith(suffix) and len(root) - len(suffix) >= shortest and is_plural_like:
                root = root[: -len(suffix)]
                break
    is_doubled = len(root) > 3 and root[-1] == root[-2] and root[-1] not in "aeiou0123456789"
    return root[:-1] if is_doubled else root


def stems(text: str) -> list[str]:
    """Return the stems of all words in order."""
    return [stem(word) for word in WORD.findall(text)]


def key_terms(text: str, *, limit: int = 24) -> dict[str, str]:
    """Return stem and first spelling of the words that carry the subject of `text`, in order.

    Request words, then stop words, are let in only where nothing else is left.
    """
    words = WORD.findall(text)
    for left_out in (STOP_WORDS | REQUEST_WORDS, STOP_WORDS, frozenset[str]()):
        terms: dict[str, str] = {}
        for word in words:
            if word.lower() not in left_out and (len(word) > 1 or word.isdigit()):
                terms.setdefault(stem(word), word)
        if terms:
            return dict(list(terms.items())[:limit])
    return {}


def query_words(text: str, *, limit: int = 10) -> list[str]:
    """Return the subject words as written (`max_turns`, `Retry-After`), for a search box."""
    keys = key_terms(text)
    found = {surface.lower(): surface for surface in _SURFACE.findall(text) if _is_key(surface, keys)}
    return list(found.values())[:limit]


def _is_key(surface: str, keys: dict[str, str]) -> bool:
    return any(stem(word) in keys for word in WORD.findall(surface))


def sentences(text: str) -> Iterator[tuple[int, str]]:
    """Yield each sentence with its offset in `text`."""
    start = 0
    for match in _BOUNDARY.finditer(text):
        piece = text[start : match.end()].rstrip()
        if _ABBREVIATION.search(piece[-10:]):
            continue
        yield start, piece
        start = match.end()
    if rest := text[start:].strip():
        yield start, rest


def words_of(name: str) -> list[str]:
    """Return the lower-cased words of an identifier: `maxResults` and `max_results` alike."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower().replace("-", "_").split("_")


def shorten(text: str, limit: int) -> str:
    """Return `text` of at most `limit` characters, cut between words where that is possible."""
    if len(text) <= limit:
        return text
    if limit < 8:
        return text[: max(limit, 0)]
    head = text[: limit - 1]
    cut = head.rfind(" ")
    return (head[:cut] if cut > limit // 2 else head).rstrip(" ,;:") + "…"
