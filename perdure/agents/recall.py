"""Which of many remembered texts are about something: by the words that they share. Both sides; pure.

BM25 over words, without a model: the same texts and the same question give the same order, on every machine.
"""

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence

from perdure.contracts.memory import MemoryEntry

_WORD = re.compile(r"\w+")
_K1, _B = 1.2, 0.75
_SHORTEST = 4
"""Words of so many letters match longer ones that begin with them, at half the weight: `boat`, `boats`."""


def rank(query: str, entries: Sequence[MemoryEntry], limit: int) -> list[MemoryEntry]:
    """Return the entries that share words with a query, the best first; for no words the first `limit` entries.

    Among equals, those that come first in `entries` do so here.
    """
    asked = sorted(set(_words(query)))
    if not asked:
        return list(entries[:limit])
    counts = [Counter(_words(f"{entry.key} {entry.text}")) for entry in entries]
    mean = sum(sum(each.values()) for each in counts) / max(len(counts), 1)
    matches = [{word: _matches(word, each) for word in asked} for each in counts]
    weights = {word: _weight(sum(each[word] > 0 for each in matches), len(entries)) for word in asked}
    scores = [
        sum(weights[word] * _saturated(found[word], sum(each.values()), mean) for word in asked)
        for found, each in zip(matches, counts, strict=True)
    ]
    order = sorted(range(len(entries)), key=lambda n: (-scores[n], n))
    return [entries[n] for n in order[:limit] if scores[n] > 0]


def _words(text: str) -> list[str]:
    return _WORD.findall(unicodedata.normalize("NFKC", text).casefold())


def _matches(word: str, counts: Counter[str]) -> float:
    """Return how often a word occurs; words that begin alike count half."""
    alike = sum(count for other, count in counts.items() if other != word and _is_alike(word, other))
    return counts[word] + alike / 2


def _is_alike(one: str, other: str) -> bool:
    """Say whether one word begins with the other, but for up to two letters at the end of a longer one."""
    shorter = min(len(one), len(other))
    stem = shorter if shorter < _SHORTEST + 2 else shorter - 2
    return shorter >= _SHORTEST and one[:stem] == other[:stem]


def _weight(containing: int, total: int) -> float:
    return math.log(1 + (total - containing + 0.5) / (containing + 0.5))


def _saturated(count: float, length: int, mean: float) -> float:
    return count * (_K1 + 1) / (count + _K1 * (1 - _B + _B * length / mean)) if count else 0.0
