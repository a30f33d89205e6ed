"""Following a run as it goes: new messages from Event History, partial text from heartbeats. Client side.

Live text costs no history and needs no worker to answer: it is what the open call's last heartbeat holds.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Literal

from pydantic import BaseModel, ConfigDict
from temporalio.api.enums.v1 import EventType
from temporalio.client import Client
from temporalio.service import RPCError

from perdure.client._runs import RunInfo, describe, not_found, to_info
from perdure.client._show import PendingCall, details
from perdure.client._transcript import TranscriptEntry, transcript
from perdure.history import RecordedRun, RunReader

_POLL_SECONDS = 1.0


class WatchEvent(BaseModel):
    """Something new about a run."""

    model_config = ConfigDict(frozen=True)

    kind: Literal["message", "pending", "continued", "closed"]
    entry: TranscriptEntry | None = None
    """A new message, when `kind` is `message`."""
    pending: tuple[PendingCall, ...] = ()
    """All calls in flight, when `kind` is `pending`; it comes about once a second while there are any."""
    info: RunInfo | None = None
    """The run, when it `closed` or `continued` as new."""


async def watch(client: Client, workflow_id: str) -> AsyncIterator[WatchEvent]:
    """Yield what is there, then what comes, until the last run of the chain is closed.

    Raises:
        RunNotFoundError: There is no such run. Not retryable.
    """
    described = await describe(client, workflow_id)
    run_id = described.workflow_execution_info.execution.run_id
    seen = -1
    while run_id:
        queue: asyncio.Queue[WatchEvent | None] = asyncio.Queue()
        reader = RunReader(client.data_converter)
        tasks = [
            asyncio.create_task(_follow(client, workflow_id, run_id, reader, queue)),
            asyncio.create_task(_poll(client, workflow_id, run_id, reader.run, queue)),
        ]
        try:
            while (event := await queue.get()) is not None:
                if event.entry is not None:
                    if event.entry.slot <= seen:
                        continue
                    seen = event.entry.slot
                yield event
            await tasks[0]
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        run_id = reader.next_run_id
        info = to_info((await describe(client, workflow_id, run_id)).workflow_execution_info, client)
        yield WatchEvent(kind="continued" if run_id else "closed", info=info)


async def _follow(
    client: Client,
    workflow_id: str,
    run_id: str,
    reader: RunReader,
    queue: "asyncio.Queue[WatchEvent | None]",
) -> None:
    handle = client.get_workflow_handle(workflow_id, run_id=run_id)
    shown = 0
    try:
        async for event in handle.fetch_history_events(wait_new_event=True):
            await reader.read(event)
            if event.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_STARTED:
                continue
            entries = _consecutive(transcript(reader.run))
            for entry in entries[shown:]:
                queue.put_nowait(WatchEvent(kind="message", entry=entry))
            shown = len(entries)
    except RPCError as error:
        raise not_found(error, workflow_id) from None
    finally:
        queue.put_nowait(None)


def _consecutive(entries: list[TranscriptEntry]) -> list[TranscriptEntry]:
    """Return the entries up to the first gap: a tool call that is still running."""
    return [entry for position, entry in enumerate(entries) if entry.slot == entries[0].slot + position]


async def _poll(
    client: Client,
    workflow_id: str,
    run_id: str,
    run: RecordedRun,
    queue: "asyncio.Queue[WatchEvent | None]",
) -> None:
    while True:
        await asyncio.sleep(_POLL_SECONDS)
        described = await describe(client, workflow_id, run_id)
        info = to_info(described.workflow_execution_info, client)
        pending = (await details(info, described, run, client)).pending
        if pending:
            queue.put_nowait(WatchEvent(kind="pending", pending=pending))
