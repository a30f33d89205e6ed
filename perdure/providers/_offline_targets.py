"""What earlier results name that can be read next: paths, URLs, ids. Activity side; pure, no I/O."""

import math
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any, cast

from perdure.providers._offline_passages import Passage, pattern_of
from perdure.providers._offline_results import (
    HIT,
    LISTED,
    TARGET_NAMES,
    Outcome,
    json_values,
    parse_json,
    read_outcome,
)
from perdure.providers._offline_strings import URL
from perdure.providers._offline_text import stem, stems
from perdure.providers._offline_view import View

_EXTENSIONS = (
    "md|mdx|txt|rst|adoc|py|toml|json|jsonl|ya?ml|cfg|ini|csv|tsv|html?|css|js|ts|tsx|go|rs|java|kt|c|h|cpp|sh|sql|"
    "log|xml|tex|org|rb|php|proto|tf|conf|env|lock"
)
_PATH = re.compile(
    rf"(?<![\w:/.@-])(?:[\w.@~-]+/)+[\w.@~-]*\w|(?<![\w:/.@-])[\w@~-][\w.@~-]*\.(?:{_EXTENSIONS})(?![\w/])"
)
_NOT_TEXT = re.compile(
    r"\.(?:png|jpe?g|gif|svg|ico|pdf|zip|gz|tar|whl|so|pyc|bin|db|sqlite|lock|woff2?)$", re.IGNORECASE
)
_ENTRANCES = re.compile(r"(?:^|/)(?:readme|index|overview|introduction|guide|about)\b", re.IGNORECASE)


def named_paths(text: str) -> list[str]:
    """Return the paths that running text names, in order."""
    return list(dict.fromkeys(_PATH.findall(text)))


def listed_targets(view: View) -> list[str]:
    """Return the paths that lists and search results name, in order."""
    return list(dict.fromkeys(path for outcome in _lists(view) for path, _ in _mentions(outcome)))


def rank_paths(view: View) -> list[tuple[str, float]]:
    """Return paths and their promise, best first: named by the question, then full of its words."""
    terms: dict[str, set[str]] = {}
    hits: Counter[str] = Counter()
    pattern = pattern_of(view.terms)
    for outcome in _lists(view):
        for path, text in _mentions(outcome):
            found = {each.lower() for each in pattern.findall(text)} if pattern else set[str]()
            terms.setdefault(path, set()).update(found)
            hits[path] += bool(found)
    spread = Counter(term for found in terms.values() for term in found)
    scores: dict[str, float] = {}
    for path, found in terms.items():
        rarity = sum(math.log(1 + len(terms) / spread[term]) for term in found)
        named = 2.0 * len(set(stems(path)) & view.terms.keys())
        scores[path] = rarity + named + 0.1 * min(hits[path], 10)
    for path in named_paths(view.question):
        matches = [each for each in scores if each == path or each.endswith(f"/{path}")] or [path]
        scores.update(dict.fromkeys(matches[:2], 100.0))
    usable = [(path, score) for path, score in scores.items() if not _NOT_TEXT.search(path)]
    return sorted(usable, key=lambda each: (-each[1], not _ENTRANCES.search(each[0]), each[0]))


def rank_values(view: View, name: str) -> list[tuple[str, float]]:
    """Return the values for a parameter that is no path: URLs, and what JSON results have under its name."""
    if {"url", "uri", "link"} & set(name.lower().split("_")):
        texts = [view.question, *(each.text for each in view.outcomes if not each.is_error)]
        return [(url, 50.0) for url in dict.fromkeys(url for text in texts for url in URL.findall(text))]
    return [(value, 1.0) for value in json_values(view.outcomes, name)]


def uncovered_terms(view: View) -> list[str]:
    """Return the stems of the question that no result holds so far."""
    text = "\n".join(each.text for each in view.outcomes if not each.is_error).lower()
    return [term for term in view.terms if term not in text]


def _lists(view: View) -> Iterator[Outcome]:
    return (each for each in view.outcomes if not each.is_error and each.is_list)


def _mentions(outcome: Outcome) -> Iterator[tuple[str, str]]:
    """Yield each path that a result names, with the text that it stands beside."""
    if parse_json(outcome.text) is not None:
        yield from _json_mentions(outcome)
        return
    for line in outcome.text.splitlines():
        hit = HIT.match(line)
        listed = LISTED.fullmatch(line)
        if hit and not hit[1].startswith(("http", "[")):
            yield hit[1], hit[3]
        elif listed and _PATH.fullmatch(listed[1]):
            yield listed[1], ""
        else:
            yield from ((path, line) for path in named_paths(line))


def _json_mentions(outcome: Outcome) -> Iterator[tuple[str, str]]:
    for name in TARGET_NAMES:
        yield from ((value, "") for value in json_values([outcome], name) if _PATH.fullmatch(value))
    for each in read_outcome(outcome):
        text = each.text if isinstance(each, Passage) else "\n".join(line for _, line in each.lines)
        if _PATH.fullmatch(each.source):
            yield each.source, text
    data = parse_json(outcome.text)
    for each in cast("list[Any]", data) if isinstance(data, list) else ():
        if isinstance(each, str) and _PATH.fullmatch(each):
            yield each, ""


def is_path_like(name: str, description: str) -> bool:
    """Say whether a parameter takes a path."""
    words = set(stems(name)) | set(stems(description)[:6])
    return bool({stem("path"), stem("file"), stem("filename"), stem("filepath")} & words)
