"""Documents as passages that can be quoted, and their ranking. Activity side; pure, no I/O.

A passage is a sentence, a table row or a line of code. Text that shares no word with the question is skipped
before it is split, so ranking 200 kB takes a few milliseconds.
"""

import math
import re
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

from perdure.providers._offline_text import sentences, shorten, stems

_CODE_SUFFIXES = (".py", ".js", ".ts", ".go", ".rs", ".java", ".c", ".h", ".cpp", ".sh", ".toml", ".yaml", ".yml")
_HEADING = re.compile(r"#{1,6}\s+(\S.*)")
_BULLET = re.compile(r"\s*(?:[-*+]|\d{1,3}[.)])\s+(?=\S)")
_TABLE_RULE = re.compile(r"[\s|:-]+")
_DIGIT = re.compile(r"\d")
_LONGEST = 420
_SHORTEST = 12
_MOST_RANKED = 150
_MOST_WEIGHED = 20


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
        is_script = bool(self.lines) and self.lines[0][1].startswith("#!")
        return is_script or self.source.endswith(_CODE_SUFFIXES)


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

    def passages(self, source: str, terms: Collection[str]) -> Iterator[Passage]:
        """Yield the sentences that may hold one of the terms, each with the line that it starts on."""
        text = " ".join([line for _, line in self.lines])
        if holds_any(self.heading.lower(), terms):
            terms = ()
        elif not holds_any(text.lower(), terms):
            return
        starts: list[int] = []
        offset = 0
        for _, line in self.lines:
            starts.append(offset)
            offset += len(line) + 1
        context = f"{self.heading} {source}"
        for start, sentence in sentences(text):
            if len(sentence) >= _SHORTEST and holds_any(sentence.lower(), terms):
                number = self.lines[bisect_right(starts, start) - 1][0]
                yield Passage(shorten(sentence, _LONGEST), source, number, context, self.weight)


def holds_any(text: str, terms: Collection[str]) -> bool:
    """Say, quickly, whether one of the terms may be in lower-cased text; true for no terms."""
    return not terms or any(map(text.__contains__, terms))


def document_passages(document: Document, terms: Collection[str]) -> Iterator[Passage]:
    """Yield the passages of a document; with terms, only those that may hold one, or whose heading may."""
    for block in _blocks(document):
        yield from block.passages(document.source, terms)


def _blocks(document: Document) -> Iterator[_Block]:
    block = _Block("", [])
    is_code = document.is_code
    is_fenced = False
    for number, raw in document.lines:
        line = raw.strip()
        is_fence = line.startswith(("```", "~~~"))
        is_fenced ^= is_fence
        heading = None if is_fenced or is_code or line[:1] != "#" else _HEADING.match(line)
        is_alone = is_fenced or is_code or line.startswith("|")
        bullet = _BULLET.match(line)
        if not line or is_fence or heading or is_alone or bullet:
            if block.lines:
                yield block
            block = _Block(heading[1] if heading else block.heading, [])
        if is_alone and line and not is_fence:
            yield from _alone(block.heading, number, line)
        elif line and not is_fence and not heading:
            block.lines.append((number, line[bullet.end() :] if bullet else line))
    if block.lines:
        yield block


def _alone(heading: str, number: int | None, line: str) -> Iterator[_Block]:
    """Yield a line of code, or a table row; a row of many cells rarely says anything by itself."""
    if not line.startswith("|"):
        yield _Block(heading, [(number, line)], 0.6)
    elif not _TABLE_RULE.fullmatch(line):
        cells = [cell.strip() for cell in line.strip("|").split("|") if cell.strip()]
        row = (" — " if len(cells) == 2 else " | ").join(cells)
        yield _Block(heading, [(number, row)], 1.0 if len(cells) < 5 else 0.6)


def pattern_of(terms: Iterable[str]) -> re.Pattern[str] | None:
    """Return a pattern that finds words beginning with one of the stems; None for no stems."""
    parts = sorted(re.escape(term) for term in terms)
    return re.compile(rf"(?<![^\W_])(?:{'|'.join(parts)})", re.IGNORECASE) if parts else None


def rank(
    passages: Iterable[Passage],
    terms: Mapping[str, float],
    *,
    phrases: Collection[str] = (),
    prefer_numbers: bool = False,
) -> list[Ranked]:
    """Return the passages that share words with the question, best first (BM25 and coverage).

    Args:
        passages: What there is to quote.
        terms: Stems of the question, with their weights.
        phrases: Lower-cased identifiers of the question, such as `retry-after`; worth more than their words.
        prefer_numbers: The question asks how many, how long or when.
    """
    entries = [(passage, stems(passage.text)) for passage in _most_promising(passages, terms)]
    if not entries or not terms:
        return []
    average = sum(len(words) for _, words in entries) / len(entries)
    frequency = Counter(term for _, words in entries for term in terms.keys() & set(words))
    rarity = {t: math.log(1 + (len(entries) + 0.5) / (frequency[t] + 0.5)) * w for t, w in terms.items()}
    ranked: list[Ranked] = []
    for passage, words in entries:
        if score := _score(passage, words, rarity, average):
            bonus = 1.25 if prefer_numbers and _DIGIT.search(passage.text) else 1.0
            if phrases and any(phrase in passage.text.lower() for phrase in phrases):
                bonus *= 1.6
            held = frozenset(words)
            ranked.append(Ranked(passage, score * bonus * passage.weight, held, held & terms.keys()))
    ranked.sort(key=_order)
    return _favour_sources(ranked)


def _order(each: Ranked) -> tuple[float, str, int, str]:
    return (-each.score, each.passage.source, each.passage.line or 0, each.passage.text)


def _favour_sources(ranked: list[Ranked]) -> list[Ranked]:
    """Raise the passages of the sources that hold most of the best: those are about the subject."""
    best = ranked[:_MOST_WEIGHED]
    total = sum(each.score for each in best)
    shares: defaultdict[str, float] = defaultdict(float)
    for each in best:
        shares[each.passage.source] += each.score / total
    raised = [replace(each, score=each.score * (1 + shares[each.passage.source])) for each in ranked]
    return sorted(raised, key=_order)


def _most_promising(passages: Iterable[Passage], terms: Collection[str]) -> list[Passage]:
    """Return the passages that seem to hold most terms; to look closely at thousands would take too long."""
    found = list(passages)
    if len(found) <= _MOST_RANKED:
        return found
    counts = [sum(map(passage.text.lower().__contains__, terms)) for passage in found]
    ordered = sorted(range(len(found)), key=lambda i: -counts[i])
    return [found[i] for i in ordered[:_MOST_RANKED]]


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


def pick(ranked: Iterable[Ranked], *, most: int, floor: float = 0.4) -> list[Ranked]:
    """Return the best passages that don't repeat one another.

    Args:
        ranked: Best first.
        most: How many at most.
        floor: The share of the best score below which a passage isn't worth quoting.
    """
    chosen: list[Ranked] = []
    for each in ranked:
        if chosen and 2 * len(each.matched) < len(chosen[0].matched):
            continue
        if len(chosen) == most or (chosen and each.score < floor * chosen[0].score):
            break
        if not any(_is_same(each.stems, other.stems) for other in chosen):
            chosen.append(each)
    return chosen


def _is_same(one: frozenset[str], other: frozenset[str]) -> bool:
    return len(one & other) > 0.84 * min(len(one), len(other))
