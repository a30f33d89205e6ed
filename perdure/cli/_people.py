"""Printing what waits for people, and what they decided."""

import asyncio
import json
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pydantic import JsonValue
from rich.text import Text
from temporalio.service import RPCError

from perdure.cli._context import say
from perdure.cli._format import ago, call, clean, duration, one_line, plural, stamp
from perdure.cli._input import read_input
from perdure.cli._render import console, print_items, print_json, print_labelled, print_table
from perdure.client import Inbox, RecordedDecision, RunWaits
from perdure.contracts.waits import Decision, Wait
from perdure.errors import InvalidInputError

if TYPE_CHECKING:
    from perdure.client import PerdureClient

_POLL_SECONDS = 2.0
_DONE = {"approved": "Approved", "denied": "Denied", "answered": "Answered", "expired": "Too late for"}


def parse_object(text: str | None, option: str) -> dict[str, JsonValue] | None:
    """Read a JSON object from an option: JSON, @FILE or - for stdin.

    Raises:
        InvalidInputError: It is none. Not retryable.
    """
    if text is None:
        return None
    try:
        value: Any = json.loads(read_input(text))
    except (ValueError, RecursionError) as error:
        raise InvalidInputError(f"{option} should be a JSON object: {error}.") from None
    if not isinstance(value, dict):
        raise InvalidInputError(f"{option} should be a JSON object, such as '{{\"amount\": 5}}'.")
    return value  # pyright: ignore[reportUnknownVariableType] - JSON


def print_inbox(inbox: Inbox, output: str) -> None:
    """Print a line for each wait, as JSON each run with its waits; and on stderr what is left out."""
    runs = inbox.runs
    if output != "text":
        print_items(runs, output)
    elif not runs:
        say("Nothing waits for a person.")
    else:
        rows = [row for run in runs for row in _rows(run)]
        print_table(console(), ("SINCE", "GROUP", "LEFT", "CALL", "RUN", "WHAT"), rows)
        if any(not run.is_answered for run in runs):
            say(
                "Runs without a CALL have no worker that answers: what is shown is from history, and can't be "
                "decided."
            )
    _say_untold(runs)
    if inbox.left_out:
        say(f"Not shown: {plural(inbox.left_out, 'run')}, started later than these. --limit N shows more.")


def _say_untold(runs: Sequence[RunWaits]) -> None:
    for run in runs:
        if run.total > len(run.waits):
            say(f"{run.workflow_id} waits for {run.total - len(run.waits):,} more: decide some of these first.")


def _rows(run: RunWaits) -> Iterator[tuple[str, str, str, str, str, str]]:
    for wait in run.waits:
        since = ago(wait.asked_at) if console().is_terminal else stamp(wait.asked_at)
        yield since, wait.group or "-", left(wait), wait.id or "-", run.workflow_id, one_line(what(wait))
    if not run.waits:
        yield "-", "-", "-", "-", run.workflow_id, (run.state or "").replace("_", " ")


def left(wait: Wait) -> str:
    """Return how much time is left for a decision."""
    if wait.deadline is None:
        return "-"
    return duration(wait.deadline - datetime.now(UTC)) if wait.deadline > datetime.now(UTC) else "over"


def what(wait: Wait) -> str:
    """Return what is to be decided, in a line."""
    return wait.question if wait.kind == "question" else call(wait.tool, wait.arguments)


def print_waits(runs: Sequence[RunWaits], output: str) -> None:
    """Print each wait in full."""
    if output != "text":
        print_items(list(runs), output)
        return
    if not runs:
        say("It waits for nobody.")
    out = console()
    for run in runs:
        if not run.waits:
            say(f"{run.workflow_id} waits, and no worker answers that knows for what: `perdure worker`.")
        for wait in run.waits:
            for label, value in wait_lines(run, wait):
                print_labelled(out, label, value, width=12)
            out.file.write("\n")
    _say_untold(runs)


def wait_lines(run: RunWaits, wait: Wait) -> Iterator[tuple[str, str]]:
    """Yield what a person must know to decide."""
    yield wait.kind, wait.id or "(no worker answers)"
    yield "run", run.workflow_id
    if wait.agent:
        yield "agent", wait.agent
    if wait.question:
        yield "question", clean(wait.question)
    else:
        yield "tool", wait.tool
        yield "arguments", clean(_pretty(wait.arguments)) + (" … (cut)" if wait.is_cut else "")
    if wait.reason:
        yield "reason", clean(wait.reason)
    if wait.note:
        yield "policy", clean(wait.note)
    if wait.answer is not None and wait.answer != {"type": "string"}:
        yield "answer", json.dumps(wait.answer, ensure_ascii=False)
    if wait.group:
        yield (
            "group",
            wait.group + (f" (nothing came from {wait.escalated_from!r})" if wait.escalated_from else ""),
        )
    yield "since", stamp(wait.asked_at)
    if wait.deadline is not None:
        yield "deadline", f"{stamp(wait.deadline)} ({left(wait)} left), then {_then(wait)}"


def _then(wait: Wait) -> str:
    if wait.kind == "question":
        return "the agent goes on without an answer" if wait.agent else "AnswerTimeout"
    if wait.on_deadline == "escalate" and wait.escalated_from is None:
        return f"{wait.escalate_to!r} is asked"
    return "the run fails" if wait.on_deadline == "fail" else "it is denied"


def _pretty(arguments: str) -> str:
    try:
        return json.dumps(json.loads(arguments or "{}"), indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):
        return arguments


def how_to(run: RunWaits, wait: Wait) -> str:
    """Return the command that decides."""
    if not wait.id:
        return "no worker answers that could take a decision: `perdure worker`"
    if wait.kind == "question":
        return f"perdure answer {run.workflow_id} TEXT --call {wait.id}"
    return f"perdure approve {run.workflow_id} {wait.id}"


def waiting_pairs(runs: Sequence[RunWaits]) -> Iterator[tuple[str, Text]]:
    """Yield what a run waits for people for, for `show`."""
    for run in runs:
        if not run.waits:
            yield "waits for", Text("a person; no worker answers that knows for what", style="yellow")
        for wait in run.waits:
            text = Text(f"a person: {clean(one_line(what(wait)))}", style="yellow")
            text.append(f" · {how_to(run, wait)}", style="dim")
            if wait.deadline is not None:
                text.append(f" · {left(wait)} left", style="dim")
            yield "waits for", text


def say_waits(runs: Sequence[RunWaits]) -> None:
    """Say on stderr that a run waits for people, and what they can do."""
    for run in runs:
        for wait in run.waits:
            noun = "an answer" if wait.kind == "question" else "approval"
            say(f"{run.workflow_id} waits for {noun}: {clean(one_line(what(wait)))} · {how_to(run, wait)}")


@asynccontextmanager
async def telling_waits(client: "PerdureClient", workflow_id: str) -> AsyncGenerator[None]:
    """Say meanwhile on stderr when a run waits for people, each thing once."""
    task = asyncio.create_task(_tell_waits(client, workflow_id))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _tell_waits(client: "PerdureClient", workflow_id: str) -> None:
    told: set[tuple[str, str]] = set()
    while True:
        with suppress(RPCError):  # it passes, or whoever waits for the result is told
            say_new_waits(await client.waits(workflow_id), told)
        await asyncio.sleep(_POLL_SECONDS)


def say_new_waits(runs: Sequence[RunWaits], told: set[tuple[str, str]]) -> None:
    """Say what waits now, but for what was `told`, which is added to."""
    for run in runs:
        new = [wait for wait in run.waits if (wait.id, wait.group) not in told]
        told.update((wait.id, wait.group) for wait in new)
        say_waits([run.model_copy(update={"waits": tuple(new)})])


def print_decision(decision: Decision, output: str) -> None:
    """Print what was decided."""
    if output != "text":
        print_json(decision, output)
        return
    by = f" as {decision.by.name}" if decision.by is not None else ""
    for_ever = f", and {decision.tool} for the rest of the run" if decision.is_always else ""
    say(f"{_DONE[decision.outcome]} {decision.wait}{for_ever}{by}.")


def print_decisions(decisions: Sequence[RecordedDecision], output: str) -> None:
    """Print what people decided in a run."""
    if output != "text":
        print_items(list(decisions), output)
        return
    if not decisions:
        say("Nobody has decided anything in this run.")
        return
    rows = [
        (
            stamp(each.at),
            each.verdict + (" (edited)" if each.arguments is not None else " (always)" if each.is_always else ""),
            each.wait,
            f"{each.by.name} ({each.by.source.replace('_', ' ')})",
            each.principal or "-",
            one_line(each.reason) or "-",
        )
        for each in decisions
    ]
    print_table(console(), ("AT", "DECISION", "CALL", "BY", "SERVER SAYS", "REASON"), rows)
