"""The offline model's structured output: a JSON schema filled with extracts. Activity side; pure, no I/O."""

import json
import re
from functools import cached_property
from typing import Any

from perdure.contracts.spec import OutputSpec
from perdure.providers._offline_answer import extract, quotes
from perdure.providers._offline_passages import Ranked, pick, rank
from perdure.providers._offline_schema import Schema, SchemaFiller, Slot
from perdure.providers._offline_strings import fit_text
from perdure.providers._offline_targets import listed_targets
from perdure.providers._offline_text import key_terms, shorten, stem, stems, words_of
from perdure.providers._offline_view import View, leading_passages

_SOURCE = frozenset(
    ("source", "sources", "path", "paths", "file", "files", "url", "urls", "reference", "references")
)
_SUMMARY = frozenset(("summary", "answer", "text", "result", "report", "explanation", "conclusion", "content"))
_TITLE = frozenset(("title", "name", "headline", "subject", "topic", "label", "heading"))
_SHARE = frozenset(("confidence", "probability", "score", "certainty", "relevance"))
_FOUND = frozenset(("found", "answered", "success", "complete", "ok", "sufficient"))
_NEGATION = re.compile(r"\b(?:not|no|never|none|cannot|without|\w+n't)\b", re.IGNORECASE)
_NUMBER = re.compile(r"(?<![\w.])-?\d+(?:\.\d+)?(?![\w]*[A-Za-z_])")
_POOL = 200
_MOST_LISTED = 50


def fill_output(view: View, output: OutputSpec) -> str:
    """Return the JSON text of an output that fits its schema, made of extracts from the evidence."""
    value = SchemaFiller(output.parameters, _OutputChooser(view)).fill(output.parameters)
    return json.dumps(value, ensure_ascii=False)


class _OutputChooser:
    """Chooses extracts by what a field is called and described as."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._by_field: dict[tuple[str, ...], list[Ranked]] = {}

    @cached_property
    def _best(self) -> list[Ranked]:
        return quotes(self._view)

    @cached_property
    def _sources(self) -> list[str]:
        ranked = list(dict.fromkeys(each.passage.source for each in self._best))
        return ranked or (listed_targets(self._view)[:_MOST_LISTED] if self._view.asks_for_list else [])

    @cached_property
    def _corpus(self) -> str:
        return "\n".join([self._view.question, *(each.passage.text for each in self._view.ranked[:_POOL])])

    def _for_field(self, slot: Slot) -> list[Ranked]:
        """Return the passages nearest to question and field; any, where none is near."""
        words = (*words_of(slot.name), *key_terms(slot.description, limit=8).values())
        if words not in self._by_field:
            terms = {**{stem(word): 0.8 for word in words if word}, **self._view.terms}
            pool = [each.passage for each in self._view.ranked[:_POOL]]
            pool = pool or leading_passages(self._view, most=20)
            self._by_field[words] = pick(rank(pool, terms), most=8, floor=0.15) if pool else []
        return self._by_field[words]

    def choose_text(self, slot: Slot, schema: Schema) -> str:
        """Return sources, a title, a summary, or the sentence nearest to the field."""
        return fit_text(self._text(slot), schema, self._corpus)

    def _text(self, slot: Slot) -> str:
        names = set(words_of(slot.name))
        if names & _SOURCE:
            return self._sources[slot.index % len(self._sources)] if self._sources else "none"
        if names & _TITLE:
            return shorten(" ".join(self._view.subject) or "untitled", 80).capitalize()
        if names & _SUMMARY and slot.depth <= 1 and self._best:
            return extract(self._view, most=3)
        near = self._for_field(slot)
        if near:
            return near[slot.index % len(near)].passage.text
        if self._view.asks_for_list and self._sources:
            return f"The tools list {', '.join(self._sources)}."
        return f"Nothing found about {shorten(' '.join(self._view.subject) or 'an empty request', 100)}."

    def choose_number(self, slot: Slot, schema: Schema) -> float | None:
        """Return a share of words found, a line, or the first number near the field."""
        names = set(words_of(slot.name))
        if names & _SHARE:
            held = {term for each in self._best for term in each.matched}
            return round(len(held) / len(self._view.terms), 2) if self._view.terms else 0.0
        if "line" in names:
            lines = [each.passage.line for each in self._best if each.passage.line is not None]
            return float(lines[slot.index % len(lines)]) if lines else None
        if "default" in schema:
            return None
        texts = (each.passage.text for each in self._for_field(slot))
        numbers = [float(number) for text in texts for number in _NUMBER.findall(text)[:3]]
        return numbers[slot.index % len(numbers)] if numbers else None

    def choose_flag(self, slot: Slot) -> bool:
        """Return whether something was found, and doesn't say no."""
        if set(words_of(slot.name)) & _FOUND:
            return bool(self._best)
        near = self._for_field(slot) if self._best else []
        return bool(near) and not _NEGATION.search(near[0].passage.text)

    def choose_member(self, slot: Slot, members: list[Any]) -> Any:
        """Return the member that shares most words with the best sentences and the question."""
        words = set(stems(self._view.question)).union(*(each.stems for each in self._best[:3]))
        ordered = sorted(members, key=lambda each: -len(words & set(stems(str(each)))))
        return ordered[slot.index % len(ordered)]

    def count_items(self, slot: Slot, items: Schema) -> int:
        """Return how many sources or sentences there are to list."""
        if set(words_of(slot.name)) & _SOURCE:
            return len(self._sources)
        if items.get("enum"):
            return 1
        return min(len(self._for_field(slot)), 5) if self._best else 0
