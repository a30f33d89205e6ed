"""Printing runs: the list of them, and one in detail."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from decimal import Decimal

from rich.text import Text

from perdure.cli._context import say
from perdure.cli._format import ago, clean, cost, duration, one_line, plural, size, stamp
from perdure.cli._limits import money_pairs
from perdure.cli._people import waiting_pairs
from perdure.cli._render import console, print_pairs, print_table, status_text
from perdure.cli._tree import print_tree
from perdure.client import ModelTrouble, PendingCall, RunDetails, RunInfo
from perdure.contracts.fork import ForkedFrom
from perdure.contracts.run import Counters

_MAX_SELECTIONS = 10
_MAX_TROUBLES = 10


def print_runs(runs: Sequence[RunInfo]) -> None:
    """Print a line for each run."""
    if not runs:
        say("No runs.")
        return
    out = console()
    show_time = ago if out.is_terminal else stamp
    rows = [
        (
            state_text(run),
            run.agent or run.workflow,
            show_time(run.started_at),
            duration((run.closed_at or datetime.now(UTC)) - run.started_at),
            "" if run.cost_usd is None else cost(Decimal(str(run.cost_usd))),
            f"{run.history_events:,}" if run.history_events else "",
            run.workflow_id,
        )
        for run in runs
    ]
    print_table(out, ("STATUS", "AGENT", "STARTED", "TIME", "COST", "EVENTS", "ID"), rows)


def state_text(run: RunInfo) -> Text:
    """Return where a run stands: its own state, where that says more than Temporal's status."""
    is_telling = run.status == "running" and run.state not in (None, "working", "starting")
    return Text(str(run.state).replace("_", " "), style="yellow") if is_telling else status_text(run.status)


def print_details(run: RunDetails) -> None:
    """Print one run."""
    out = console()
    info = run.info
    is_agent = bool(run.models)
    pairs: list[tuple[str, str | Text]] = [
        ("run", info.workflow_id),
        ("status", state_text(info)),
        ("agent", info.agent or "-") if is_agent else ("workflow", info.workflow),
        ("started", f"{stamp(info.started_at)} ({ago(info.started_at)})"),
        ("time", duration((info.closed_at or datetime.now(UTC)) - info.started_at)),
        ("queue", info.task_queue),
    ]
    if is_agent:
        pairs.extend(_agent_pairs(run))
    pairs.extend(money_pairs(run.money))
    pairs.append(("history", f"{plural(info.history_events, 'event')}, {size(info.history_bytes)}"))
    if run.input:
        pairs.append(("input", one_line(run.input)))
    pairs.extend(_selection_pairs(run))
    pairs.extend(_trouble(run))
    pairs.extend(_model_troubles(run.troubles))
    pairs.extend(("waits for", describe_pending(call)) for call in run.pending)
    pairs.extend(waiting_pairs(run.waits))
    print_pairs(out, pairs)
    print_tree(out, run.tree)


def _agent_pairs(run: RunDetails) -> Iterator[tuple[str, str]]:
    counters, usage = run.counters, run.counters.usage
    yield "model", ", ".join(run.models)
    if run.forked is not None:
        yield "fork of", describe_fork(run.forked)
    copied = f", after {counters.copied_turns} that were copied" if counters.copied_turns else ""
    yield "turns", f"{counters.turns} of {run.limits.get('max_turns') or '∞'}{copied}"
    yield "tool calls", str(counters.tool_calls)
    cached = f" ({usage.cached_tokens:,} cached)" if usage.cached_tokens else ""
    yield "tokens", f"{usage.input_tokens:,} in{cached}, {usage.output_tokens:,} out"
    if counters.model_calls:
        yield "cost", cost(usage.cost_usd)
    saved = ", ".join(_saved(counters))
    if saved:
        yield "saved", saved
    others = {key: value for key, value in run.limits.items() if key != "max_turns"}
    yield "limits", ", ".join(f"{key}={value}" for key, value in others.items())
    yield "messages", str(run.messages)


def describe_fork(forked: ForkedFrom) -> str:
    """Return where a fork comes from, and what is not as there."""
    changes = f": other {', '.join(forked.changes)}" if forked.changes else ""
    return clean(f"{forked.workflow_id} at turn {forked.turn}{changes}")


def _selection_pairs(run: RunDetails) -> Iterator[tuple[str, Text]]:
    if run.plan is not None and any(task.chosen_by for task in run.plan.tasks):
        return  # its tree tells
    left_out = len(run.selections) - _MAX_SELECTIONS
    for each in run.selections[-_MAX_SELECTIONS:]:
        told = Text(clean(one_line(f"{each.agent} by {each.strategy}: {each.why}", 300)))
        if each.note:
            told.append(f" · {one_line(each.note, 300)}", style="yellow")
        yield "chose", told
    if left_out > 0:
        yield "", Text(f"and {left_out} before", style="dim")


def _saved(counters: Counters) -> Iterator[str]:
    """Yield what calls were answered by other calls' results, and what that saved."""
    if counters.saved_tool_calls:
        yield plural(counters.saved_tool_calls, "tool call")
    if counters.saved_model_calls:
        yield plural(counters.saved_model_calls, "model call")
        yield cost(counters.saved_usage.cost_usd)


def _trouble(run: RunDetails) -> Iterator[tuple[str, Text]]:
    if run.failure:
        yield "failure", Text(clean(run.failure), style="red")
    if run.task_attempt > 2:
        yield (
            "stuck",
            Text(
                f"the workflow's code fails, {run.task_attempt} times by now; see the log of the worker",
                style="red",
            ),
        )


def _model_troubles(troubles: Sequence[ModelTrouble]) -> Iterator[tuple[str, Text]]:
    """Yield the last model calls that failed, or were answered after a failure only."""
    for each in troubles[-_MAX_TROUBLES:]:
        attempts = plural(each.attempts, "attempt")
        ended = f"answered at attempt {each.attempts}" if each.is_answered else f"failed after {attempts}"
        told = f"{each.model} {ended}: {one_line(each.failure, 200)}"
        yield "model call", Text(clean(told), style="yellow")
    if len(troubles) > _MAX_TROUBLES:
        yield "", Text(f"and {len(troubles) - _MAX_TROUBLES} before", style="dim")


def describe_pending(call: PendingCall, what: Text | None = None) -> Text:
    """Return what a call in flight, called `what`, is about."""
    text = what or Text(call.activity.removeprefix("perdure."))
    if call.attempt > 1:
        text.append(f", attempt {call.attempt}", style="yellow")
    if call.next_attempt_at is not None:
        text.append(f" in {duration(call.next_attempt_at - datetime.now(UTC))}", style="yellow")
    elif not call.is_started:
        text.append(", waits for a worker")
    elif call.worker:
        text.append(f" on {call.worker}", style="dim")
    if call.last_failure:
        text.append(f" · last failure: {one_line(call.last_failure, 300)}", style="yellow")
    return text
