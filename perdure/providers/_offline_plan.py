"""Which tools the offline model calls next. Activity side; pure, no I/O.

In turns: look around and search, read what looks promising, search once more for what was not found, and only
then do what has effects. A tool that may have effects is called only where the question names it.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from perdure.contracts.spec import ToolSpec
from perdure.providers._offline_arguments import CODE, fill_arguments, is_query
from perdure.providers._offline_results import LIST_VERBS
from perdure.providers._offline_targets import is_path_like, rank_paths, rank_values, uncovered_terms
from perdure.providers._offline_text import STOP_WORDS, WORD, stem, stems, words_of
from perdure.providers._offline_view import View, call_key

MOST_TOOL_TURNS = 8
MOST_PARALLEL = 3

_MOST_READS = 6
_SEARCH_VERBS = frozenset(("search", "find", "lookup", "query", "grep", "retrieve", "recall"))
_READ_VERBS = frozenset(("read", "get", "open", "fetch", "load", "view", "show", "cat", "download"))
_GENERIC_VERBS = _SEARCH_VERBS | _READ_VERBS | LIST_VERBS
_HARMLESS_VERBS = _GENERIC_VERBS | frozenset(
    ("ask", "consult", "research", "analyse", "analyze", "calculate", "compute", "convert", "count", "check")
)

_Role = Literal["list", "search", "read", "other"]


@dataclass(frozen=True, slots=True)
class PlannedCall:
    """A tool call to make."""

    name: str
    arguments: dict[str, Any]


@dataclass(frozen=True)
class _Candidate:
    spec: ToolSpec
    role: _Role
    parameter: str
    """The one that takes the search words, or the target."""
    affinity: int
    """How many words it shares with the question."""
    is_harmless: bool
    is_named: bool
    """Whether the question asks for it."""


def plan_calls(view: View, tools: Sequence[ToolSpec], *, most: int = MOST_PARALLEL) -> list[PlannedCall]:
    """Return the calls of the next turn, none that was made before; empty when it is time to answer."""
    if view.tool_turns >= MOST_TOOL_TURNS or not view.question:
        return []
    candidates = sorted((_judge(tool, view) for tool in tools), key=lambda each: -each.affinity)
    for stage in (_gather, _read, _refine, _act):
        calls = _new_calls(view, stage(view, candidates))
        if calls:
            return calls[:most]
    return []


def _new_calls(view: View, calls: Iterable[PlannedCall]) -> list[PlannedCall]:
    new: dict[str, PlannedCall] = {}
    for call in calls:
        key = call_key(call.name, call.arguments)
        if key not in view.asked:
            new.setdefault(key, call)
    return list(new.values())


def _judge(tool: ToolSpec, view: View) -> _Candidate:
    words = words_of(tool.name)
    role, parameter = _role(tool, set(words))
    question = {stem(word) for word in WORD.findall(view.question) if word.lower() not in STOP_WORDS}
    is_harmless = not tool.needs_approval and (tool.idempotent or bool(_HARMLESS_VERBS & set(words)))
    objects = {stem(word) for word in words if word not in _GENERIC_VERBS} & question
    described = set(stems(tool.description)) & view.terms.keys()
    parameters = {stem(word) for name in _properties(tool) for word in words_of(name)} & question
    is_literal = tool.name in view.question or (is_harmless and tool.name in view.instructions)
    if is_harmless:
        is_named = is_literal or bool(objects) or len(described) > 1
    else:
        rest = {stem(word) for word in words[1:]}
        is_named = is_literal or (stem(words[0]) in question and (not rest or bool(rest & question)))
    affinity = 3 * len(objects) + len(described) + len(parameters) + 5 * is_literal
    return _Candidate(tool, role, parameter, affinity, is_harmless, is_named)


def _role(tool: ToolSpec, words: set[str]) -> tuple[_Role, str]:
    properties = _properties(tool)
    required = [str(name) for name in tool.parameters.get("required", ())]
    query = next((name for name in properties if is_query(name)), "")
    target = required[0] if len(required) == 1 else ""
    is_target = bool(target) and _is_target(target, properties.get(target, {}))
    if query and (words & _SEARCH_VERBS or stem("search") in stems(tool.description)):
        return "search", query
    if words & LIST_VERBS and (not required or is_target):
        return "list", target
    if words & _READ_VERBS and is_target:
        return "read", target
    return "other", ""


def _properties(tool: ToolSpec) -> dict[str, dict[str, Any]]:
    return tool.parameters.get("properties", {})


def _is_target(name: str, schema: dict[str, Any]) -> bool:
    is_named_so = bool({"url", "uri", "link", "id"} & set(words_of(name)))
    return schema.get("type") == "string" and (is_named_so or is_path_like(name, schema.get("description", "")))


def _gather(view: View, candidates: Sequence[_Candidate]) -> Iterator[PlannedCall]:
    """Look around: named paths, searches, lists, and whatever harmless the question asks for."""
    yield from (call for call, promise in _reads(view, candidates) if promise >= 50)
    searches = [each for each in candidates if each.role == "search" and each.is_harmless]
    for each in searches[:2] if view.subject and not view.asks_for_list else ():
        yield _call(each, view, _query_for(each, view.subject))
    lists = [each for each in candidates if each.role == "list" and each.is_harmless]
    for each in lists[:2]:
        yield _call(each, view, "." if each.parameter else None)
    for each in candidates:
        is_fit = each.role == "other" or (each.role == "read" and _has_code(each, view))
        if is_fit and each.is_harmless and each.is_named:
            yield _call(each, view, None)


def _has_code(candidate: _Candidate, view: View) -> bool:
    return "id" in words_of(candidate.parameter) and bool(CODE.search(view.question))


def _call(candidate: _Candidate, view: View, value: Any) -> PlannedCall:
    given = {} if value is None else {candidate.parameter: value}
    return PlannedCall(candidate.spec.name, fill_arguments(candidate.spec, view, given))


def _query_for(candidate: _Candidate, words: Sequence[str]) -> Any:
    """Return search words as the parameter wants them: a list, alternatives, or one line."""
    if _properties(candidate.spec)[candidate.parameter].get("type") == "array":
        return list(words)
    is_pattern = {"pattern", "regex"} & set(words_of(candidate.parameter))
    return ("|" if is_pattern else " ").join(words)


def _read(view: View, candidates: Sequence[_Candidate]) -> Iterator[PlannedCall]:
    """Read the most promising targets; without any promise, the first few."""
    if view.asks_for_list:
        return
    done = sum(
        call.name in {each.spec.name for each in candidates if each.role == "read"} for call in view.asked_now
    )
    ranked = list(_reads(view, candidates))
    best = max((promise for _, promise in ranked), default=0.0)
    worth = [call for call, promise in ranked if promise > 0 and promise >= 0.4 * best]
    if not worth and not done:
        worth = [call for call, _ in ranked[:2]]
    yield from worth[: max(_MOST_READS - done, 0)] if done else worth[:_MOST_READS]


def _reads(view: View, candidates: Sequence[_Candidate]) -> Iterator[tuple[PlannedCall, float]]:
    for each in candidates:
        if each.role != "read" or not each.is_harmless:
            continue
        schema = _properties(each.spec).get(each.parameter, {})
        is_path = is_path_like(each.parameter, schema.get("description", ""))
        for target, promise in rank_paths(view) if is_path else rank_values(view, each.parameter):
            call = _call(each, view, target)
            if call_key(call.name, call.arguments) not in view.asked:
                yield call, promise


def _refine(view: View, candidates: Sequence[_Candidate]) -> Iterator[PlannedCall]:
    """Search once more, by the beginnings of the words that no result holds."""
    missing = [term for term in uncovered_terms(view) if len(term) > 3][:4]
    for each in candidates:
        made = sum(call.name == each.spec.name for call in view.asked_now)
        if missing and each.role == "search" and each.is_harmless and made == 1:
            yield _call(each, view, _query_for(each, missing))


def _act(view: View, candidates: Sequence[_Candidate]) -> Iterator[PlannedCall]:
    """Do what has effects, once a question, if the question asks for it."""
    made = {call.name for call in view.asked_now}
    for each in candidates:
        if each.is_named and not each.is_harmless and each.spec.name not in made:
            yield _call(each, view, None)
