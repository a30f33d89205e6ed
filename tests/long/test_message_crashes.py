"""Worker and server are killed while messages and pauses are in flight: none is lost or done twice."""

import asyncio
import os
import random
import signal
from collections.abc import Awaitable, Callable
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
