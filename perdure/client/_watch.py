"""Following a run as it goes: new messages from Event History, partial text from heartbeats. Client side.

Live text costs no history and needs no worker to answer: it is what the open call's last heartbeat holds.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from datetime import datetime
from itertools import count
from typing import Literal

from pydantic import BaseModel, ConfigDict
from temporalio.api.enums.v1 import EventType
from temporalio.client import Client
from temporalio.service import RPCError

from perdure.client._children import ChildReader, ChildRun
from perdure.client._runs import RunInfo, describe, first_start, not_found, to_info
from perdure.client._show import PendingCall, details
from perdure.client._steering import answered
from perdure.client._transcript import TranscriptEntry, everything
from perdure.client._tree import Tree, make_tree, plan_from_history, with_earlier
from perdure.client._waits import WAITING, RunWaits, WaitReader
from perdure.contracts.plan import PlanStatus
from perdure.history import RecordedRun, RunReader

_POLL_SECONDS = 1.0
_TREE_SECONDS = 3.0
"""What is further below changes without a trace in the run's own history, so the tree is drawn anew after this."""

AskPlan = Callable[[RunInfo], Awaitable[PlanStatus | None]]


class WatchEvent(BaseModel):
    """Something new about a run."""

    model_config = ConfigDict(frozen=True)

    kind: Literal["message", "pending", "child", "tree", "waits", "idle", "continued", "closed"]
    entry: TranscriptEntry | None = None
    """A new message, when `kind` is `message`."""
    pending: tuple[PendingCall, ...] = ()
    """All calls in flight, when `kind` is `pending`; it comes about once a second while there are any."""
    child: ChildRun | None = None
    """A child run that started or ended, when `kind` is `child`."""
    tree: Tree | None = None
    """All that is below the run, when `kind` is `tree`: after changes, and only where it was asked for."""
    read: int | None = None
    """Messages to the run that a session has answered, beside its input, when `kind` is `idle`."""
    waits: tuple[RunWaits, ...] = ()
    """All that people are to decide, when `kind` is `waits`: when that has changed."""
    info: RunInfo | None = None
    """The run, when it `closed` or `continued` as new."""


async def watch(client: Client, workflow_id: str, *, ask_plan: AskPlan | None = None) -> AsyncIterator[WatchEvent]:
    """Yield what is there, then what comes, until the last run of the chain is closed.

    Args:
        client: Of Temporal.
        workflow_id: The run.
        ask_plan: Asks a run for its plan; given where the tree is wanted.

    Raises:
        RunNotFoundError: There is no such run. Not retryable.
    """
    described = await describe(client, workflow_id)
    run_id = described.workflow_execution_info.execution.run_id
    seen = (-1, -1)
    while run_id:
        run = _Run(client, workflow_id, run_id, ask_plan)
        tasks = [asyncio.create_task(run.follow()), asyncio.create_task(run.poll())]
        try:
            while (event := await run.queue.get()) is not None:
                if event.entry is not None:
                    place = (event.entry.epoch, event.entry.slot)
                    if place <= seen:
                        continue
                    seen = place
                yield event
            await tasks[0]
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        run_id = run.reader.next_run_id
        info = to_info((await describe(client, workflow_id, run_id)).workflow_execution_info, client)
        yield WatchEvent(kind="continued" if run_id else "closed", info=info)


class _Run:
    """One run of the chain.

    Attributes:
        queue: What is new; None at the end.
        reader: What was read of its history.
    """

    def __init__(self, client: Client, workflow_id: str, run_id: str, ask_plan: AskPlan | None) -> None:
        self.queue: asyncio.Queue[WatchEvent | None] = asyncio.Queue()
        self.reader = RunReader(client.data_converter)
        self._children = ChildReader(client.data_converter)
        self._client = client
        self._workflow_id = workflow_id
        self._run_id = run_id
        self._ask_plan = ask_plan
        self._events = 0
        self._drawn = (0, 0.0)
        self._waits: list[RunWaits] = []
        self._asked_below = 0.0

    async def follow(self) -> None:
        """Read the history as it grows."""
        handle = self._client.get_workflow_handle(self._workflow_id, run_id=self._run_id)
        shown = 0
        try:
            async for event in handle.fetch_history_events(wait_new_event=True):
                self._events += 1
                await self.reader.read(event)
                child = await self._children.read(event)
                if child is not None:
                    self.queue.put_nowait(WatchEvent(kind="child", child=child))
                if event.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_STARTED:
                    continue
                entries = _consecutive(self.reader.run)
                for entry in entries[shown:]:
                    self.queue.put_nowait(WatchEvent(kind="message", entry=entry))
                shown = len(entries)
                read = await answered(event, self._client)
                if read is not None:
                    self.queue.put_nowait(WatchEvent(kind="idle", read=read))
        except RPCError as error:
            raise not_found(error, self._workflow_id) from None
        finally:
            self.queue.put_nowait(None)

    async def poll(self) -> None:
        """Ask what history doesn't tell: calls in flight, and what is further below."""
        while True:
            await asyncio.sleep(_POLL_SECONDS)
            with suppress(RPCError):  # it passes, or `follow` tells of it
                await self._ask()

    async def _ask(self) -> None:
        described = await describe(self._client, self._workflow_id, self._run_id)
        info = to_info(described.workflow_execution_info, self._client)
        pending = (await details(info, described, self.reader.run, self._client)).pending
        if pending:
            self.queue.put_nowait(WatchEvent(kind="pending", pending=pending))
        await self._tell_waits(info, has_calls=bool(pending))
        if self._is_tree_due():
            since = await first_start(self._client, described)
            self.queue.put_nowait(WatchEvent(kind="tree", tree=await self._tree(info, since)))

    async def _tell_waits(self, info: RunInfo, *, has_calls: bool) -> None:
        """Ask what people are to decide, where that may have changed."""
        is_waiting = info.state in WAITING or (info.state is None and not has_calls)
        is_below_due = bool(self._children.children) and time.monotonic() - self._asked_below > _TREE_SECONDS
        if not (is_waiting or is_below_due or self._waits):
            return
        self._asked_below = time.monotonic()
        found = await WaitReader(self._client).of_tree(info)
        if found != self._waits:
            self._waits = found
            self.queue.put_nowait(WatchEvent(kind="waits", waits=tuple(found)))

    def _is_tree_due(self) -> bool:
        if self._ask_plan is None or not (self._children.children or self._children.plan):
            return False
        events, at = self._drawn
        if self._events == events and time.monotonic() - at < _TREE_SECONDS:
            return False
        self._drawn = self._events, time.monotonic()
        return True

    async def _tree(self, info: RunInfo, since: datetime) -> Tree:
        assert self._ask_plan is not None
        plan = await self._ask_plan(info)
        children = await with_earlier(self._client, info, list(self._children.children.values()), since)
        if plan is None and self._children.plan is not None:
            plan = plan_from_history(info, self._children.plan, children)
        return await make_tree(self._client, info, children, plan, since=since)


def _consecutive(run: RecordedRun) -> list[TranscriptEntry]:
    """Return all entries but those behind the first gap: a tool call that is still running."""
    now = run.conversation()
    filled = next(slot for slot in count() if slot not in now)
    entries = list(everything(run))
    last = entries[-1].epoch if entries else 0
    return [entry for entry in entries if entry.epoch < last or entry.slot < filled]
