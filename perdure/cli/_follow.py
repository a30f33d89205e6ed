"""Following a run: what is done is printed, what goes on is shown live below, on a terminal."""

from collections.abc import AsyncIterator
from contextlib import nullcontext, suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group
from rich.live import Live
from rich.spinner import Spinner
from rich.text import Text
from temporalio.service import RPCError

from perdure.cli._context import warn_without_workers
from perdure.cli._errors import RunFailed, run_outcome
from perdure.cli._format import call, clean, cost, duration, one_line, plural, stamp
from perdure.cli._messages import MessagePrinter
from perdure.cli._people import how_to, what
from perdure.cli._prompting import Prompts, can_ask
from perdure.cli._render import console, print_labelled, status_text
from perdure.cli._runs import describe_pending
from perdure.cli._stream import stream
from perdure.cli._tree import child_label, describe_child, print_tree, tree_lines
from perdure.client import PendingCall, Tree, WatchEvent
from perdure.client._runs import describe, to_info
from perdure.contracts.names import CALL_MODEL, CALL_TOOL

if TYPE_CHECKING:
    from perdure.client import PerdureClient

_TAIL_LINES = 6


async def warn_if_idle(client: "PerdureClient", workflow_id: str) -> None:
    """Say on stderr when a run is open and no worker polls its Task Queue; nothing where the server can't tell.

    Raises:
        RunNotFoundError: There is no such run. Not retryable.
    """
    with suppress(RPCError):
        described = await describe(client.temporal, workflow_id)
        info = to_info(described.workflow_execution_info, client.temporal)
        if info.closed_at is None:
            await warn_without_workers(client, info.task_queue)


async def follow(client: "PerdureClient", workflow_id: str, out: Console, *, is_asking: bool = False) -> None:
    """Print a run as it goes, until it is closed.

    Args:
        client: Where the run is.
        workflow_id: The run.
        out: Where to.
        is_asking: Ask whoever is at the terminal, if somebody is, what the run waits for people for.
    """
    shown = Follower(out, workflow_id)
    live = Live(console=out, transient=True, refresh_per_second=8) if out.is_terminal else None
    asking = Prompts(client, out, live) if is_asking and can_ask(out) else None
    with live or nullcontext():
        try:
            async for event in client.watch(workflow_id, with_tree=live is not None):
                shown.show(event, tells_waits=asking is None)
                if asking is not None and event.kind in ("waits", "closed"):
                    asking.note(event.waits)
                if live is not None and live.is_started:
                    live.update(shown.live())
        finally:
            if asking is not None:
                await asking.close()
        if live is not None:
            live.update(Text())
    await _print_summary(client, workflow_id, out)


async def watch(client: "PerdureClient", workflow_id: str, output: str) -> None:
    """Print a run to stdout as it goes; as JSON its events, the last of them what it failed with, if it did.

    Raises:
        RunFailed: It did not complete.
    """
    if output == "text":
        await follow(client, workflow_id, console())
        with run_outcome():
            await client.result(workflow_id)
        return
    failures: list[RunFailed] = []

    async def events() -> AsyncIterator[Any]:
        async for event in client.watch(workflow_id):
            yield event
        try:
            with run_outcome():
                await client.result(workflow_id)
        except RunFailed as failed:
            failures.append(failed)
            yield {"kind": "error", "error": failed.told}

    await stream(events(), output)
    for failed in failures:
        raise failed


async def _print_summary(client: "PerdureClient", workflow_id: str, out: Console) -> None:
    run = await client.show(workflow_id)
    usage = run.counters.usage
    facts = [duration((run.info.closed_at or datetime.now(UTC)) - run.info.started_at)]
    if run.models:
        facts = [
            plural(run.counters.turns, "turn"),
            plural(run.counters.tool_calls, "tool call"),
            plural(usage.total_tokens, "token"),
            *([cost(usage.cost_usd)] if usage.cost_usd else []),
            *facts,
        ]
    print_tree(out, run.tree)
    print_labelled(out, status_text(run.info.status), Text(" · ".join(facts), style="dim"))


class Follower:
    """Prints the events of a run, and knows what goes on."""

    def __init__(self, out: Console, workflow_id: str) -> None:
        """Start with nothing seen."""
        self._out = out
        self._workflow_id = workflow_id
        self._tree = Tree()
        self._messages = MessagePrinter(out)
        self._pending: tuple[PendingCall, ...] = ()
        self._told: set[tuple[str, int]] = set()

    def show(self, event: WatchEvent, *, tells_waits: bool = True) -> None:
        """Take an event in, and print what is final about it; of waits, only where nobody is asked here."""
        if event.kind == "waits" and tells_waits:
            self._tell_waits(event)
        if event.entry is not None:
            self._messages.print(event.entry)
        if event.kind in ("message", "pending", "continued", "closed"):
            self._pending = event.pending
        if event.tree is not None:
            self._tree = event.tree
        if event.child is not None and not self._out.is_terminal:
            print_labelled(self._out, child_label(event.child), describe_child(event.child, self._workflow_id))
        if event.kind == "pending" and not self._out.is_terminal:
            self._tell_failures()
        if event.kind == "continued" and event.info is not None:
            at = stamp(event.info.started_at)
            print_labelled(self._out, Text("new run", style="dim"), Text(f"continued as new at {at}", style="dim"))

    def live(self) -> Group:
        """Return what goes on, to be shown below."""
        lines: list[Spinner | Text] = list(tree_lines(self._tree))
        for each in self._pending:
            lines.append(Spinner("dots", self._describe(each)))
            if each.progress is not None and each.progress.text:
                tail = clean(each.progress.text).splitlines()[-_TAIL_LINES:]
                lines.extend(Text(f"           {line}", style="dim", overflow="ellipsis") for line in tail)
        return Group(*lines)

    def _describe(self, pending: PendingCall) -> Text:
        is_waiting = pending.next_attempt_at is not None or pending.attempt > 1 or not pending.is_started
        if pending.activity == CALL_MODEL:
            text = Text(f"turn {self._messages.turns + 1}: asks the model", style="cyan")
        elif pending.activity == CALL_TOOL:
            calls = [one_line(call(each.name, each.arguments), 60) for each in self._messages.open_calls.values()]
            text = Text(f"runs {', '.join(calls) or 'a tool'}", style="green")
        else:
            return describe_pending(pending)
        return describe_pending(pending, text) if is_waiting else text

    def _tell_waits(self, event: WatchEvent) -> None:
        for run in event.waits:
            for wait in run.waits:
                if (run.workflow_id, hash((wait.id, wait.group))) in self._told:
                    continue
                self._told.add((run.workflow_id, hash((wait.id, wait.group))))
                told = Text(one_line(what(wait)), style="yellow").append(f" · {how_to(run, wait)}", style="dim")
                print_labelled(self._out, Text("asks", style="yellow"), told)

    def _tell_failures(self) -> None:
        for each in self._pending:
            if each.last_failure and (each.activity_id, each.attempt) not in self._told:
                self._told.add((each.activity_id, each.attempt))
                print_labelled(self._out, Text("retry", style="yellow"), describe_pending(each))
