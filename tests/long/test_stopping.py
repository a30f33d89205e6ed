"""Stopping: a worker finishes its calls, a cancelled run stops its HTTP request."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from temporalio.client import Client

from perdure.client import PerdureClient
from perdure.contracts.run import RunResult
from perdure.devserver import DevServer
from perdure.errors import RunCancelled
from tests.fakes.conversing import ConversingServer
from tests.fakes.http import Connection, HttpServer, Request, event
from tests.fakes.openai_server import chunks
from tests.fakes.replies import FakeReply
from tests.long.test_crashes import APP
from tests.support.workers import WorkerProcess

TIME = timedelta(seconds=30)
RUNS = 10


@pytest.fixture
def queue() -> str:
    return f"q-{uuid4().hex[:8]}"


def _answer(turn: int, messages: list[dict[str, Any]]) -> FakeReply:
    return FakeReply(text="done")


async def test_sigterm_lets_model_calls_finish(
    server: DevServer, temporal: Client, tmp_path: Path, queue: str
) -> None:
    async with ConversingServer(_answer, delay_seconds=2) as fake:
        env = {**fake.env, "CRASH_LOG": str(tmp_path / "effects")}
        client = PerdureClient(temporal, task_queue=queue)
        async with WorkerProcess(server.address, queue, APP, env=env) as worker:
            # An input that is looked up: calls that start while the worker drains need their query answered.
            runs = [await client.start_agent("crash", "go") for _ in range(RUNS)]
            while fake.open_requests < RUNS:
                await asyncio.sleep(0.02)
            assert await worker.stop() == 0
        assert fake.answered.total() == RUNS, "a call was cut"
        async with WorkerProcess(server.address, queue, APP, env=env):
            results = [await client.result(run.workflow_id, timeout=TIME) for run in runs]
        assert all(isinstance(result, RunResult) and result.output == "done" for result in results)
        assert len(fake.asked) == RUNS, "a call was made twice"


class _Hanging(HttpServer):
    """Never answers; notes when a client leaves."""

    def __init__(self) -> None:
        super().__init__(self._hang)
        self.asked = asyncio.Event()
        self.left = asyncio.Event()

    async def _hang(self, request: Request, connection: Connection) -> None:
        self.asked.set()
        await connection.peer_left()
        self.left.set()


@pytest.fixture
async def hanging() -> AsyncIterator[_Hanging]:
    async with _Hanging() as fake:
        yield fake


async def test_cancelling_a_run_closes_its_request(
    server: DevServer, temporal: Client, tmp_path: Path, queue: str, hanging: _Hanging
) -> None:
    env = {"OPENAI_BASE_URL": f"{hanging.url}/v1", "OPENAI_API_KEY": "sk-test", "CRASH_LOG": str(tmp_path / "x")}
    client = PerdureClient(temporal, task_queue=queue)
    async with WorkerProcess(server.address, queue, APP, env=env):
        run = await client.start_agent("crash", "go")
        await asyncio.wait_for(hanging.asked.wait(), 20)
        await asyncio.sleep(1.5)
        cancelled = time.monotonic()
        await client.cancel(run.workflow_id)
        await asyncio.wait_for(hanging.left.wait(), 10)
        took = time.monotonic() - cancelled
        with pytest.raises(RunCancelled):
            await client.result(run.workflow_id, timeout=TIME)
    assert took < 1, f"the request was closed after {took:.1f} s"
    print(f"request closed {took:.2f} s after cancel")


async def test_a_stalled_worker_pays_once(server: DevServer, temporal: Client, tmp_path: Path, queue: str) -> None:
    async with ConversingServer(_answer, delay_seconds=6) as fake:
        env = {**fake.env, "CRASH_LOG": str(tmp_path / "effects")}
        client = PerdureClient(temporal, task_queue=queue)
        async with WorkerProcess(server.address, queue, APP, env=env, heartbeat_timeout=2) as worker:
            run = await client.start_agent("crash", "go")
            while not fake.open_requests:
                await asyncio.sleep(0.02)
            os.kill(worker.pid, signal.SIGSTOP)
            await asyncio.sleep(3.5)
            os.kill(worker.pid, signal.SIGCONT)
            result = await client.result(run.workflow_id, timeout=TIME)
    handle = temporal.get_workflow_handle(run.workflow_id)
    started = [event.activity_task_started_event_attributes for event in (await handle.fetch_history()).events]
    assert max(each.attempt for each in started) > 1, "the stall was not noticed"
    assert isinstance(result, RunResult)
    assert result.output == "done"
    assert len(fake.asked) == 1, "the call was made, and paid, twice"


class _Talking(HttpServer):
    """Says half a sentence, and no more."""

    def __init__(self) -> None:
        super().__init__(self._talk)
        self.asked = asyncio.Event()
        self.requests_begun = 0

    async def _talk(self, request: Request, connection: Connection) -> None:
        self.requests_begun += 1
        await connection.stream_head()
        for chunk in list(chunks(FakeReply(text="half of it"), "m"))[:-2]:
            await connection.chunk(event(chunk))
        self.asked.set()
        await connection.peer_left()


async def test_a_partial_reply_is_no_answer_of_a_cancelled_run(
    server: DevServer, temporal: Client, tmp_path: Path, queue: str
) -> None:
    async with _Talking() as fake:
        env = {"OPENAI_BASE_URL": f"{fake.url}/v1", "OPENAI_API_KEY": "sk-test", "CRASH_LOG": str(tmp_path / "x")}
        client = PerdureClient(temporal, task_queue=queue)
        async with WorkerProcess(server.address, queue, APP, env=env):
            run = await client.start_agent("crash", "go")
            await asyncio.wait_for(fake.asked.wait(), 20)
            await asyncio.sleep(0.5)
            await client.cancel(run.workflow_id)
            with pytest.raises(RunCancelled):
                await client.result(run.workflow_id, timeout=TIME)
            entries = await client.transcript(run.workflow_id)
    assert (entries[-1].message.text, entries[-1].message.stop) == ("half of it", "interrupted")
    assert fake.requests_begun == 1


async def test_a_run_whose_worker_died_is_cancelled_and_not_failed(
    server: DevServer, temporal: Client, tmp_path: Path, queue: str, hanging: _Hanging
) -> None:
    env = {"OPENAI_BASE_URL": f"{hanging.url}/v1", "OPENAI_API_KEY": "sk-test", "CRASH_LOG": str(tmp_path / "x")}
    client = PerdureClient(temporal, task_queue=queue)
    async with WorkerProcess(server.address, queue, APP, env=env, heartbeat_timeout=2) as worker:
        run = await client.start_agent("crash", "go")
        await asyncio.wait_for(hanging.asked.wait(), 20)
        await worker.kill()
        await client.cancel(run.workflow_id)
        await asyncio.sleep(1)
        await worker.start()
        with pytest.raises(RunCancelled):
            await client.result(run.workflow_id, timeout=TIME)
