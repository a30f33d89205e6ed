"""The offline model's answer in words: sentences quoted from the evidence. Activity side; pure, no I/O."""

import re
from collections.abc import Iterator

from perdure.providers._offline_passages import Passage, Ranked, pick
from perdure.providers._offline_results import value_of
from perdure.providers._offline_targets import listed_targets
from perdure.providers._offline_text import shorten
from perdure.providers._offline_view import View

SIGNATURE = "(offline:reader — rule-based extract, no language model)"
"""The last line of every answer in words."""

_MOST_SENTENCES = 6
_CITED = re.compile(r"\[source: [^]]+\]$")
_MOST_LISTED = 50


def extract(view: View, *, most: int = 3) -> str:
    """Return the best sentences as one paragraph; empty if none shares a word with the question."""
    return " ".join(each.passage.text for each in quotes(view, most=most))


def quotes(view: View, *, most: int = _MOST_SENTENCES) -> list[Ranked]:
    """Return the passages worth quoting, best first."""
    return pick(view.ranked, most=most)


def answer_pieces(view: View, *, has_tools: bool) -> Iterator[str]:
    """Yield the answer sentence by sentence, as a model would stream it."""
    listed = listed_targets(view) if view.asks_for_list else []
    found = [] if listed else quotes(view)
    for target in listed[:_MOST_LISTED]:
        yield f"- {target}\n"
    for each in _as_they_stand(found):
        yield f"- {_cited(each.passage)}\n"
    if not found and not listed:
        yield f"{_excuse(view, has_tools=has_tools)}\n"
    if missing := _failures(view):
        yield f"\n{missing}\n"
    yield f"\n{SIGNATURE}"


def _cited(passage: Passage) -> str:
    """Return a quotation with its source; one that was quoted already keeps the source that it has."""
    return passage.text if _CITED.search(passage.text) else f"{passage.text} [source: {passage.reference}]"


def _as_they_stand(found: list[Ranked]) -> list[Ranked]:
    """Return what is quoted source by source, the best one first, and in the order of its lines."""
    sources = list(dict.fromkeys(each.passage.source for each in found))
    return sorted(found, key=lambda each: (sources.index(each.passage.source), each.passage.line or 0))


def _excuse(view: View, *, has_tools: bool) -> str:
    subject = shorten(" ".join(view.subject) or view.question or "an empty request", 120)
    if view.outcomes:
        if listed := listed_targets(view):
            shown = "".join(f"\n- {target}" for target in listed[:_MOST_LISTED])
            return f"No sentence of what the tools returned speaks of {subject}. They list:{shown}"
        if values := _values(view):
            return "\n".join(values)
        return f"Nothing that the tools returned speaks of {subject}."
    if has_tools:
        return f"None of the tools offered fits {subject}, and nothing in the conversation speaks of it."
    return f"No tool may be called, and nothing in the conversation speaks of {subject}."


def _values(view: View) -> list[str]:
    """Return what was computed: it answers the question without a word of it."""
    known = ((each, value_of(each)) for each in view.outcomes)
    lines = [f"- {each.name}: {value} [source: {each.name}]" for each, value in known if value is not None]
    return list(dict.fromkeys(lines))[:_MOST_SENTENCES]


def _failures(view: View) -> str:
    if not view.failures:
        return ""
    first = view.failures[0]
    count = len(view.failures)
    return f"{count} tool call{'s' * (count > 1)} failed; {first.name}: {shorten(first.text.strip(), 200)}"
