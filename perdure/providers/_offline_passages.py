"""Documents as passages that can be quoted, and their ranking. Activity side; pure, no I/O.

A passage is a sentence, a table row or a line of code. Text that shares no word with the question is skipped
before it is split, so ranking 200 kB takes a few milliseconds.
"""

import math
import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

from perdure.providers._offline_text import sentences, shorten, stems

_CODE_SUFFIXES = (".py", ".js", ".ts", ".go", ".rs", ".java", ".c", ".h", ".cpp", ".sh", ".toml", ".yaml", ".yml")
_HEADING = re.compile(r"#{1,6}\s+(\S.*)")
_BULLET = re.compile(r"\s*(?:[-*+]|\d{1,3}[.)])\s+(?=\S)")
_TABLE_RULE = re.compile(r"[\s|:-]+")
_DIGIT = re.compile(r"\d")
_LONGEST = 420
_SHORTEST = 12


@dataclass(frozen=True, slots=True)
class Passage:
    """Something that can be quoted, and where it stands."""

    text: str
    source: str
    line: int | None = None
    context: str = ""
    """Heading and source: they count for less than the passage itself."""
    weight: float = 1.0

    @property
    def reference(self) -> str:
        """The source, with the line where it is known."""
        return self.source if self.line is None else f"{self.source}:{self.line}"


@dataclass(frozen=True, slots=True)
class Document:
    """Lines of one source; a line's number is None where it isn't known."""

    source: str
    lines: tuple[tuple[int | None, str], ...]

    @property
    def is_code(self) -> bool:
        """Whether every line stands for itself."""
        return self.source.endswith(_CODE_SUFFIXES)


@dataclass(frozen=True, slots=True)
class Ranked:
    """A passage with its score, its stems, and those of the question that it holds."""

    passage: Passage
    score: float
    stems: frozenset[str]
    matched: frozenset[str]


@dataclass(slots=True)
class _Block:
    heading: str
    lines: list[tuple[int | None, str]]
    weight: float = 1.0

    def passages(self, source: str) -> Iterator[Passage]:
        """Yield the sentences, each with the line that it starts on."""
        text = " ".join(line for _, line in self.lines)
        starts: list[int] = []
        offset = 0
        for _, line in self.lines:
            starts.append(offset)
            offset += len(line) + 1
        for start, sentence in sentences(text):
            number = self.lines[bisect_right(starts, start) - 1][0]
            if len(sentence) >= _SHORTEST:
                context = f"{self.heading} {source}"
                yield Passage(shorten(sentence, _LONGEST), source, number, context, self.weight)


def document_passages(document: Document, wanted: re.Pattern[str] | None) -> Iterator[Passage]:
    """Yield the passages of a document; with `wanted`, only of blocks in which it is found."""
    for block in _blocks(document):
        if wanted is None or wanted.search(block.heading) or any(wanted.search(text) for _, text in block.lines):
            yield from block.passages(document.source)


def _blocks(document: Document) -> Iterator[_Block]:
    block = _Block("", [])
    is_fenced = False
    for number, raw in document.lines:
        line = raw.strip()
        is_fence = line.startswith(("```", "~~~"))
        is_fenced ^= is_fence
        heading = None if is_fenced or document.is_code else _HEADING.match(line)
        is_alone = is_fenced or document.is_code or line.startswith("|")
        if not line or is_fence or heading or is_alone or _BULLET.match(line):
            if block.lines:
                yield block
            block = _Block(heading[1] if heading else block.heading, [])
        if is_alone and line and not is_fence:
            if text := _row(line) if line.startswith("|") else line:
                yield _Block(block.heading, [(number, text)], 1.0 if line.startswith("|") else 0.6)
        elif line and not is_fence and not heading:
            block.lines.append((number, _BULLET.sub("", line, count=1)))
    if block.lines:
        yield block


def _row(line: str) -> str:
    if _TABLE_RULE.fullmatch(line):
        return ""
    return " | ".join(cell.strip() for cell in line.strip("|").split("|") if cell.strip())


def pattern_of(terms: Iterable[str]) -> re.Pattern[str] | None:
    """Return a pattern that finds words beginning with one of the stems; None for no stems."""
    parts = sorted(re.escape(term) for term in terms)
    return re.compile(rf"(?<![^\W_])(?:{'|'.join(parts)})", re.IGNORECASE) if parts else None


def rank(passages: Iterable[Passage], terms: Mapping[str, float], *, prefer_numbers: bool = False) -> list[Ranked]:
    """Return the passages that share words with the question, best first (BM25 and coverage).

    Args:
        passages: What there is to quote.
        terms: Stems of the question, with their weights.
        prefer_numbers: The question asks how many, how long or when.
    """
    entries = [(passage, stems(passage.text)) for passage in passages]
    if not entries or not terms:
        return []
    average = sum(len(words) for _, words in entries) / len(entries)
    frequency = Counter(term for _, words in entries for term in terms.keys() & set(words))
    rarity = {t: math.log(1 + (len(entries) + 0.5) / (frequency[t] + 0.5)) * w for t, w in terms.items()}
    ranked: list[Ranked] = []
    for passage, words in entries:
        if score := _score(passage, words, rarity, average):
            bonus = 1.25 if prefer_numbers and _DIGIT.search(passage.text) else 1.0
            held = frozenset(words)
            ranked.append(Ranked(passage, score * bonus * passage.weight, held, held & terms.keys()))
    ranked.sort(key=lambda each: (-each.score, each.passage.source, each.passage.line or 0, each.passage.text))
    return ranked


def _score(passage: Passage, words: list[str], rarity: Mapping[str, float], average: float) -> float:
    counts = Counter(word for word in words if word in rarity)
    context = _context_stems(passage.context) & rarity.keys() - counts.keys()
    if not counts and not context:
        return 0.0
    norm = 1.2 * (0.25 + 0.75 * len(words) / max(average, 1.0))
    own = sum(rarity[term] * count * 2.2 / (count + norm) for term, count in counts.items())
    coverage = len(counts) / len(rarity)
    return own * (1 + coverage) + 0.35 * sum(rarity[term] for term in context)


@lru_cache(maxsize=4096)
def _context_stems(context: str) -> frozenset[str]:
    return frozenset(stems(context))


def pick(ranked: Iterable[Ranked], *, most: int, floor: float = 0.3) -> list[Ranked]:
    """Return the best passages that don't repeat one another.

    Args:
        ranked: Best first.
        most: How many at most.
        floor: The share of the best score below which a passage isn't worth quoting.
    """
    chosen: list[Ranked] = []
    for each in ranked:
        if len(chosen) == most or (chosen and each.score < floor * chosen[0].score):
            break
        if not any(_is_same(each.stems, other.stems) for other in chosen):
            chosen.append(each)
    return chosen


def _is_same(one: frozenset[str], other: frozenset[str]) -> bool:
    return len(one & other) >= 0.7 * min(len(one), len(other))
