"""Printing what a run did and when."""

from collections import Counter
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any

from rich.text import Text

from perdure.cli._format import clean, cost, duration, fine, one_line, plural
from perdure.cli._render import console, print_items, print_json, print_pairs, print_table, status_text
from perdure.client import Step, Sum, Timeline, Totals, totals
from perdure.client._timeline.read import children_of
from perdure.client._tree import SHOWN_BELOW, SHOWN_CHILDREN, most_telling
from perdure.contracts.usage import NO_USAGE, Usage

_BAR = 24
_WIDE = 110
_EVERYTHING = 1_000_000
_STYLES = {
    "ok": "",
    "open": "cyan",
    "cut": "dim",
    "canceled": "yellow",
    "denied": "yellow",
    "unknown": "yellow",
}
_WORDS = {"ok": "completed", "error": "an error", "cut": "cut off", "waiting_limit": "waits for a limit"}
_MOMENTS = ("signal", "cancel", "continued", "rerun", "task")


@dataclass(frozen=True)
class Row:
    """A step as a line.

    Attributes:
        step: The step.
        indent: What is drawn in front of it.
        run: The workflow id of its run.
        level: How many steps are around it.
        others: Steps that the line tells of too.
    """

    step: Step
    indent: str
    run: str
    level: int
    others: tuple[Step, ...] = ()

    @property
    def is_hidden(self) -> bool:
        """Say whether it only counts child runs that aren't shown."""
        return bool(self.others) and self.step.kind == "child"


def print_trace(timeline: Timeline, output: str, *, is_all: bool = False) -> None:
    """Print a timeline; as `jsonl` a line for each step."""
    sums = totals(timeline)
    if output == "json":
        print_json({"timeline": timeline, "totals": sums}, output)
    elif output == "jsonl":
        print_items([*_flat(timeline, timeline.steps)], output)
    else:
        _print_text(timeline, sums, is_all=is_all)


def _flat(timeline: Timeline, steps: Sequence[Step], level: int = 0) -> Iterator[dict[str, Any]]:
    """Yield each step as a value of its own, with where it belongs."""
    for step in steps:
        yield {"run": timeline.workflow_id, "level": level, **step.model_dump(exclude={"steps", "below"})}
        yield from _flat(timeline, step.steps, level + 1)
        if step.below is not None:
            yield from _flat(step.below, step.below.steps, level + 1)


def _print_text(timeline: Timeline, sums: Totals, *, is_all: bool) -> None:
    out = console()
    print_pairs(out, _facts(timeline, sums))
    out.file.write("\n")
    has_bars = out.is_terminal and out.width >= _WIDE
    columns = ("AT", "TIME", "TOKENS", "COST", *(("",) if has_bars else ()), "WHAT")
    rows = [_cells(row, timeline, has_bars=has_bars) for row in rows_of(timeline, is_all=is_all)]
    print_table(out, columns, rows)
    _print_sums(timeline, sums)


def _facts(timeline: Timeline, sums: Totals) -> Iterator[tuple[str, str | Text]]:
    yield "run", timeline.workflow_id
    yield "status", status_text(timeline.status)
    yield ("agent", clean(timeline.agent)) if timeline.agent else ("workflow", clean(timeline.workflow))
    yield "time", duration(timeline.end - timeline.started_at) + _waited(sums)
    if timeline.agent:
        own = sums.own
        made = [plural(own.turns, "turn"), plural(own.tool_calls, "tool call"), _used(own.usage)]
        yield "used", " · ".join(made)
    if sums.runs:
        least = "at least " if sums.is_partial else ""
        yield "with below", f"{least}{_used(sums.tree)} · {plural(sums.runs, 'child run')}"
    if len(timeline.links) > 1 or timeline.before is not None:
        gone = "; the runs before are gone, or too many" if timeline.before is not None else ""
        yield "chain", f"{plural(len(timeline.links), 'run')}{gone}"
    if timeline.failure:
        yield "failure", Text(clean(timeline.failure), style="red")
    if timeline.unread:
        text = f"{plural(timeline.unread, 'content')} could not be decoded: another version's, or encrypted"
        yield "unread", Text(text, style="yellow")


def _waited(sums: Totals) -> str:
    return f" ({duration(sums.waited)} of it waiting)" if sums.waited else ""


def _used(usage: Usage) -> str:
    return f"{plural(usage.total_tokens, 'token')} · {cost(usage.cost_usd)}"


def rows_of(timeline: Timeline, *, is_all: bool = False) -> Iterator[Row]:
    """Yield the lines of a timeline: each step, then what is inside of it."""
    yield from _of_run(timeline, "", level=0, limit=_EVERYTHING if is_all else SHOWN_CHILDREN)


def _of_run(timeline: Timeline, indent: str, *, level: int, limit: int) -> Iterator[Row]:
    children = [*children_of(timeline.steps)]
    states = [child.outcome for child in children]
    shown = {children[index].event_id for index in most_telling(states, limit)}
    hidden = [child for child in children if child.event_id not in shown]
    drawer = _Drawer(timeline.workflow_id, {child.event_id for child in hidden}, limit)
    yield from drawer.lines(timeline.steps, indent, level=level, is_last=not hidden)
    if hidden:
        yield Row(hidden[0], indent + _branch(level, is_last=True), timeline.workflow_id, level, tuple(hidden[1:]))


class _Drawer:
    """Draws the steps of one run."""

    def __init__(self, run: str, hidden: Set[int], limit: int) -> None:
        self._run = run
        self._hidden = hidden
        self._limit = limit

    def lines(self, steps: Sequence[Step], indent: str, *, level: int, is_last: bool) -> Iterator[Row]:
        """Yield the lines of steps, and of what is inside of them."""
        kept = [step for step in steps if step.kind != "child" or step.event_id not in self._hidden]
        groups = [tuple(group) for _, group in groupby(kept, key=_likeness)]
        for index, group in enumerate(groups):
            ends = is_last and index + 1 == len(groups)
            yield Row(group[0], indent + _branch(level, is_last=ends), self._run, level, group[1:])
            yield from self._inside(group[0], indent + _stem(level, is_last=ends), level=level + 1)

    def _inside(self, step: Step, indent: str, *, level: int) -> Iterator[Row]:
        asked = [each for each in step.steps if each.kind == "model"]
        is_one = step.kind == "turn" and len(asked) == 1  # the turn's own line tells of it
        yield from self.lines(
            [s for s in step.steps if not (is_one and s is asked[0])], indent, level=level, is_last=True
        )
        if step.below is not None:
            yield from _of_run(step.below, indent, level=level, limit=min(self._limit, SHOWN_BELOW))


def _likeness(step: Step) -> object:
    """Return what neighbours must share to be told in one line: signals of a name come in crowds."""
    return (step.kind, step.name) if step.kind in ("signal", "sent") else step.event_id


def _branch(level: int, *, is_last: bool) -> str:
    return ("└─ " if is_last else "├─ ") if level else ""


def _stem(level: int, *, is_last: bool) -> str:
    return ("   " if is_last else "│  ") if level else ""


def _cells(row: Row, timeline: Timeline, *, has_bars: bool) -> list[str | Text]:
    step, end = row.step, timeline.end
    usage = NO_USAGE if row.is_hidden else step.usage or NO_USAGE
    time = "" if row.is_hidden or step.kind in _MOMENTS else fine(step.took(end))
    cells: list[str | Text] = [
        fine(max(step.started_at - timeline.started_at, timedelta(0))),
        time,
        f"{usage.total_tokens:,}" if usage.total_tokens else "",
        cost(usage.cost_usd) if usage.cost_usd is None or usage.cost_usd else "",
    ]
    if has_bars:
        cells.append(_bar(step, timeline))
    return [*cells, _what(row)]


def _bar(step: Step, timeline: Timeline) -> Text:
    """Return where a step lies in the time of the run."""
    whole = max((timeline.end - timeline.started_at).total_seconds(), 0.001)
    first = min(int(_BAR * _share(step.started_at, timeline, whole)), _BAR - 1)
    last = min(int(_BAR * _share(step.ended_at or timeline.end, timeline, whole)), _BAR - 1)
    style = _STYLES.get(step.outcome, "red") or "green"
    return Text(" " * first).append("━" * (last - first + 1), style=style).append(" " * (_BAR - 1 - last))


def _share(at: datetime, timeline: Timeline, whole: float) -> float:
    return max((at - timeline.started_at).total_seconds() / whole, 0)


def _what(row: Row) -> Text:
    """Return what a line is about."""
    step, text = row.step, Text(row.indent, style="dim")
    if row.is_hidden:
        numbers = Counter(child.outcome for child in (step, *row.others))
        told = ", ".join(f"{number:,} {_word(outcome)}" for outcome, number in numbers.items())
        return text.append(f"… {numbers.total():,} more child runs: {told}", style="dim")
    text.append(_name(step), style="not dim bold" if step.kind in ("turn", "agent", "child") else "not dim")
    if row.others:
        text.append(f" ({len(row.others) + 1} times)", style="dim")
    for told, style in _notes(step):
        text.append(f"  {told}", style=style)
    return text


def _name(step: Step) -> str:
    match step.kind:
        case "tool":
            return one_line(step.label or f"{step.name}()")
        case "activity":
            return one_line(step.label or step.name.removeprefix("perdure.").replace("_", " "))
        case "signal" | "update":
            return f"{step.kind} {one_line(step.name)}"
        case "sent":
            return f"signal {one_line(step.name)} to {one_line(step.workflow_id)}"
        case "wait":
            return _word(step.name)
        case "agent":
            return one_line(step.agent or step.name)
        case _:
            return one_line(step.name)


def _notes(step: Step) -> Iterator[tuple[str, str]]:
    """Yield what else there is to say of a step, with its style."""
    if step.kind == "turn" and step.model:
        yield clean(step.model), "dim"
    if step.kind == "child":
        yield one_line(step.agent or step.workflow), "dim"
    if step.kind in ("timer", "nexus", "continued", "rerun") and step.label:
        yield one_line(step.label), "dim"
    if step.is_saved:
        yield "saved", "cyan"
    attempts = max([step.attempts, *(each.attempts for each in step.steps if each.kind == "model")])
    if attempts > 1:
        yield f"{attempts} attempts", "yellow"
    if step.outcome != "ok":
        yield _word(step.outcome), _STYLES.get(step.outcome, "red")
    failure = step.failure or next((each.failure for each in step.steps if each.kind == "model"), "")
    if failure:
        yield one_line(failure), "red" if step.is_bad else "yellow"
    if step.problem:
        yield f"can't be used: {one_line(step.problem)}", "yellow"


def _word(name: str) -> str:
    return _WORDS.get(name, clean(name.replace("_", " ")))


def _print_sums(timeline: Timeline, sums: Totals) -> None:
    """Print what was used by whom, where there is more than one to tell of."""
    out = console()
    for title, rows in (("AGENT", sums.agents), ("MODEL", sums.models), ("TOOL", sums.tools)):
        if len(rows) > 1 or (rows and timeline.steps and len(sums.agents) > 1):
            out.file.write("\n")
            columns = (title, "CALLS", "BAD", "RETRIES", "TIME", *(() if title == "TOOL" else ("TOKENS", "COST")))
            print_table(out, columns, [_sum_cells(row, has_usage=title != "TOOL") for row in rows])


def _sum_cells(row: Sum, *, has_usage: bool) -> tuple[str, ...]:
    cells = (one_line(row.name), f"{row.calls:,}", str(row.bad or ""), str(row.retries or ""), fine(row.took))
    return (*cells, f"{row.usage.total_tokens:,}", cost(row.usage.cost_usd)) if has_usage else cells
