"""Part `history`: a conversation's history grows with what is said, not with how often it is said.

A conversation that starts at 800 kB, beside the naive loop, which the server ends when its history is full; and
conversations of so many turns that they need several runs (Continue-As-New), none of which is shortened.
"""

from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from temporalio.client import WorkflowFailureError

from bench.chain import Chain, OneRun, read_chain
from bench.report import Report, print_table, say
from bench.stack import Stack
from bench.texts import page_text
from bench.turns import model_name
from perdure.client import PerdureClient

_QUEUE = "history"
_ALLOWANCE = 2500
_EDGE = 10
_TOLERANCE = 0.03
_LONG_EDGE = 100
_SLOWDOWN = 1.3
_LARGE = 3_000_000


@dataclass(frozen=True)
class _Plan:
    """How much to do: turns of the large conversation, then (turns, size of a result) of the long ones."""

    turns: int
    input_bytes: int
    result_bytes: int
    long: tuple[tuple[int, int], ...]


_FULL = _Plan(100, 800_000, 5000, ((1000, 2000), (1000, 10_000)))
_QUICK = _Plan(30, 800_000, 5000, ((400, 2000),))


@dataclass(frozen=True)
class _Outcome:
    """A run of perdure's, as its history and its transcript tell it."""

    chain: Chain
    calls: int
    message_bytes: int
    text_bytes: int


async def measure_history(stack: Stack, *, is_quick: bool) -> Report:
    """Measure, print, and return the figures."""
    plan = _QUICK if is_quick else _FULL
    report = Report("history")
    large = model_name(plan.turns, size=plan.result_bytes)
    models = [large, *(model_name(turns, size=size) for turns, size in plan.long)]
    perdure = await stack.start_worker("perdure", _QUEUE, models, makes_room=False)
    floor = await stack.start_worker("floor", "floor")
    await _measure_large(stack, plan, large, report)
    rows = [await _measure_long(stack, turns, size, report) for turns, size in plan.long]
    print_table("Long conversations, by Continue-As-New", _LONG_HEAD, rows)
    report.print_targets()
    await perdure.stop()
    await floor.stop()
    return report


async def _run(stack: Stack, model: str, text: str) -> _Outcome:
    """Run an agent to its end, and read what it left."""
    client = stack.client(_QUEUE)
    before = await stack.calls(model)
    started = await client.start_agent(model, text, id=f"bench-{uuid4().hex[:12]}")
    await client.result(started.workflow_id)
    calls = await stack.calls(model) - before
    chain = await read_chain(stack.temporal, started.workflow_id, started.run_id)
    message_bytes, text_bytes = await _content(client, started.workflow_id)
    return _Outcome(chain, calls, message_bytes, text_bytes)


async def _content(client: PerdureClient, workflow_id: str) -> tuple[int, int]:
    """Return the bytes of the distinct messages: as JSON, and of their text alone."""
    messages = [entry.message for entry in await client.transcript(workflow_id)]
    as_json = sum(len(message.to_bytes()) for message in messages)
    texts = (len(_text(part)) for message in messages for part in message.parts)
    return as_json, sum(texts)


def _text(part: Any) -> str:
    content = getattr(part, "content", None)
    if content is not None:
        return "".join(each.text for each in content)
    return str(getattr(part, "text", "") or getattr(part, "arguments", ""))


async def _measure_large(stack: Stack, plan: _Plan, model: str, report: Report) -> None:
    say(f"history: {plan.turns} turns from {plan.input_bytes:,} B")
    text = page_text(0, plan.input_bytes)
    outcome = await _run(stack, model, text)
    say("history: the same with the naive loop")
    naive, naive_calls, error = await _run_naive(stack, model, text)
    asked, chain = plan.turns + 1, outcome.chain
    title = (
        f"{plan.turns} turns from a conversation of {plan.input_bytes:,} B, results of {plan.result_bytes:,} B "
        f"(distinct messages: {outcome.message_bytes:,} B, of which text {outcome.text_bytes:,} B)"
    )
    head = ("", "model calls", "history", "ms/turn", "end")
    rows = [
        ["perdure", f"{outcome.calls}/{asked}", *_size_and_speed(chain), "completed"],
        ["naive loop", f"{naive_calls}/{asked}", *_size_and_speed(naive), error or "completed"],
    ]
    print_table(title, head, rows)
    report.figures["large"] = {
        "perdure": _figures(outcome),
        "naive": {"calls": naive_calls, "history_bytes": naive.size, "error": error},
    }
    report.target(f"{outcome.calls} of {asked} model calls, once each", is_met=outcome.calls == asked)
    extra = (chain.size - outcome.message_bytes) / plan.turns
    report.target(
        f"history of {chain.size:,} B is the messages and {extra:,.0f} B a turn (at most {_ALLOWANCE:,})",
        is_met=extra <= _ALLOWANCE,
    )
    first, last = sum(chain.turn_bytes[:_EDGE]), sum(chain.turn_bytes[plan.turns - _EDGE : plan.turns])
    report.target(
        f"the last {_EDGE} turns add {last:,} B, the first {first:,} B: {last / first - 1:+.1%} (at most +3 %)",
        is_met=last <= first * (1 + _TOLERANCE),
    )


async def _run_naive(stack: Stack, model: str, text: str) -> tuple[Chain, int, str]:
    """Return the history of a naive run, the model calls that it made, and what ended it."""
    before = await stack.calls(model)
    handle = await stack.temporal.start_workflow(
        "NaiveWorkflow", args=[model, text], id=f"bench-{uuid4().hex[:12]}", task_queue="floor"
    )
    error = ""
    try:
        await handle.result()
    except WorkflowFailureError as failure:
        error = f"{type(failure.cause).__name__}: {failure.cause}"
    calls = await stack.calls(model) - before
    return await read_chain(stack.temporal, handle.id, handle.result_run_id or ""), calls, error


def _size_and_speed(chain: Chain) -> tuple[str, str]:
    turns = len(chain.turn_starts) - 1
    return f"{chain.size:,} B", f"{1000 * chain.seconds(0, turns) / turns:.1f}"


_LONG_HEAD = (
    "",
    "calls",
    "runs",
    "carried into each, B",
    "history/turn",
    "content/turn",
    "total",
    "last/first 100",
)


async def _measure_long(stack: Stack, turns: int, size: int, report: Report) -> list[str]:
    say(f"history: {turns} turns with results of {size:,} B")
    outcome = await _run(stack, model_name(turns, size=size), page_text(0, 2000))
    chain = outcome.chain
    slowdown = chain.seconds(turns - _LONG_EDGE, _LONG_EDGE) / chain.seconds(0, _LONG_EDGE)
    name = f"{turns} x {size:,} B"
    report.figures[name] = {**_figures(outcome), "slowdown": slowdown}
    is_complete = outcome.calls == turns + 1 and len(chain.runs) > 1
    report.target(f"{name}: {outcome.calls} of {turns + 1} calls in {len(chain.runs)} runs", is_met=is_complete)
    if size == 2000:
        text = f"{name}: the last {_LONG_EDGE} turns took {slowdown:.2f} x the first (at most {_SLOWDOWN})"
        report.target(text, is_met=slowdown <= _SLOWDOWN)
    else:
        often = sum(run.carried > _LARGE for run in chain.runs)
        report.target(f"{name}: more than 3 MB carried over {often} times (at least 2)", is_met=often >= 2)
    return [
        name,
        str(outcome.calls),
        str(len(chain.runs)),
        " ".join(f"{run.carried:,}" for run in chain.runs[1:]),
        f"{chain.size / turns:,.0f} B",
        f"{outcome.message_bytes / turns:,.0f} B",
        f"{chain.total_seconds():.0f} s",
        f"{slowdown:.2f}",
    ]


def _figures(outcome: _Outcome) -> dict[str, Any]:
    chain = outcome.chain
    return {
        "calls": outcome.calls,
        "message_bytes": outcome.message_bytes,
        "text_bytes": outcome.text_bytes,
        "history_bytes": chain.size,
        "seconds": chain.total_seconds(),
        "turn_bytes": chain.turn_bytes,
        "runs": [_run_figures(run) for run in chain.runs],
    }


def _run_figures(run: OneRun) -> dict[str, int]:
    return {"events": run.events, "history_bytes": run.size, "carried_bytes": run.carried}
