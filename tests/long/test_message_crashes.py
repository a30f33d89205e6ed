"""Worker and server are killed while messages and pauses are in flight: none is lost or done twice."""

import asyncio
import os
import random
import signal
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

from temporalio.service import RPCError

from perdure.client import PerdureClient
from perdure.connection import connect
from perdure.contracts.messages import Message
from perdure.contracts.run import RunStatus
from perdure.contracts.steering import Session
from perdure.devserver import DevServer
from perdure.errors import PerdureError
from tests.support.workers import WorkerProcess

RUNS = 4
TIME = timedelta(seconds=60)
MESSAGES = 12
SEED = 5


async def test_no_message_is_lost_or_read_twice(tmp_path: Path) -> None:
    async with DevServer(tmp_path, port=0, ui_port=0) as server:
        client = PerdureClient(await connect(address=server.address), task_queue="q")
        async with WorkerProcess(server.address, "q", "tests.support.crash_messages_app:app") as process:
            session = Session(idle_timeout=timedelta(hours=1))
            ids = [(await client.start_agent("thinker", "go", session=session)).workflow_id for _ in range(RUNS)]
            senders = [
                asyncio.create_task(_steer(client, id, random.Random(SEED + n))) for n, id in enumerate(ids)
            ]
            kills = 0
            while not all(sender.done() for sender in senders):
                await asyncio.sleep(1.5)
                await process.kill()
                kills += 1
                if kills == 2:
                    assert server.pid is not None
                    os.kill(server.pid, signal.SIGKILL)
                    await server.wait()
                    await server.start()
                await process.start()
                if kills == 4:
                    break
            await asyncio.gather(*senders)
            await asyncio.gather(*(_check(client, id) for id in ids))
    assert kills >= 2, "nothing was killed while messages were in flight"


async def test_a_pause_outlives_worker_and_server(tmp_path: Path) -> None:
    """Nothing starts between an acknowledged pause and the resume, whoever is killed meanwhile."""
    async with DevServer(tmp_path, port=0, ui_port=0) as server:
        client = PerdureClient(await connect(address=server.address), task_queue="q")
        async with WorkerProcess(server.address, "q", "tests.support.crash_messages_app:app") as process:
            session = Session(idle_timeout=timedelta(hours=1))
            id = (await client.start_agent("thinker", "go", session=session)).workflow_id
            await _until_state(client, id, "idle")
            paused_at = await _pause_at_work(client, id)
            await process.kill()
            await process.start()
            await _until_state(client, id, "paused")
            assert server.pid is not None
            os.kill(server.pid, signal.SIGKILL)
            await server.wait()
            await server.start()
            await _until_done(lambda: client.send(id, "while paused", message_id="m2"))
            await process.kill()
            await process.start()
            await _until_state(client, id, "paused")
            await asyncio.sleep(1)
            assert await _started_since(client, id, paused_at) == [], "something was started while paused"
            await _until_done(lambda: client.resume(id))
            await _until_state(client, id, "idle")
            messages = [entry.message for entry in await client.transcript(id)]
            assert await _started_since(client, id, paused_at), "it went on"
    assert [each.text for each in messages if each.role == "user"] == ["go", "m1", "while paused"]
    assert messages[-1].text == "answered 3"


async def _pause_at_work(client: PerdureClient, id: str) -> int:
    """Pause a run in the middle of a model call, and return the last event of before."""
    await client.send(id, "m1", message_id="m1")
    async with asyncio.timeout(TIME.total_seconds()):
        while not (await client.show(id)).pending:
            await asyncio.sleep(0.05)
    await client.pause(id)
    events = (await client.temporal.get_workflow_handle(id).fetch_history()).events
    return max(
        event.event_id for event in events if event.HasField("workflow_execution_signaled_event_attributes")
    )


async def _until_state(client: PerdureClient, id: str, state: str) -> None:
    async with asyncio.timeout(TIME.total_seconds()):
        while True:
            with suppress(PerdureError, RPCError):
                status = RunStatus.model_validate(await client.query(id, "perdure.status"))
                if (status.state, status.waiting) == (state, 0) or (status.state == state == "paused"):
                    return
            await asyncio.sleep(0.1)


async def _started_since(client: PerdureClient, id: str, event_id: int) -> list[str]:
    """Return the activities that were scheduled after an event."""
    events = (await client.temporal.get_workflow_handle(id).fetch_history()).events
    return [
        event.activity_task_scheduled_event_attributes.activity_type.name
        for event in events
        if event.event_id > event_id and event.HasField("activity_task_scheduled_event_attributes")
    ]


async def _steer(client: PerdureClient, id: str, chance: random.Random) -> None:
    """Send numbered messages, each until it is acknowledged; pause and go on in between."""
    for number in range(MESSAGES):
        if chance.random() < 0.3:
            await _until_done(lambda: client.pause(id))
            await asyncio.sleep(chance.random() * 0.3)
            await _until_done(lambda: client.resume(id))
        interrupt = chance.random() < 0.3
        await _until_done(
            lambda n=number, i=interrupt: client.send(id, f"m{n}", interrupt=i, message_id=f"{id}-{n}")
        )
        await asyncio.sleep(chance.random() * 0.4)


async def _until_done(call: Callable[[], Awaitable[object]]) -> None:
    async with asyncio.timeout(120):
        while True:
            try:
                await call()
            except (PerdureError, RPCError):
                await asyncio.sleep(0.3)
            else:
                return


async def _check(client: PerdureClient, id: str) -> None:
    async with asyncio.timeout(120):
        while True:
            status = RunStatus.model_validate(await client.query(id, "perdure.status"))
            if status.state == "idle" and status.waiting == 0 and status.received == MESSAGES:
                break
            await asyncio.sleep(0.2)
    messages = [entry.message for entry in await client.transcript(id)]
    assert [each.text for each in messages if each.role == "user"] == ["go", *(f"m{n}" for n in range(MESSAGES))]
    assert messages[-1].text == f"answered {MESSAGES + 1}"
    _check_pairs(messages)


def _check_pairs(messages: list[Message]) -> None:
    """Every call is followed by its result."""
    for asked, result in pairwise(messages):
        if asked.tool_calls:
            assert result.role == "tool"
