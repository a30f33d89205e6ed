"""A worker in production: queues of their own, health, a graceful end under load."""

import asyncio
import os
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from temporalio.client import Client

from perdure import Agent, App, tool
from perdure.client import PerdureClient, StartedRun
from perdure.devserver import DevServer
from perdure.errors import SettingsError
from perdure.testing import ScriptedModel
from perdure.testing.scripted import calls
from tests.fakes.conversing import ConversingServer
from tests.fakes.replies import FakeReply
from tests.support.health import ask_health, free_port
from tests.support.workers import WorkerProcess, worker

APP = "tests.support.drain_app:app"
TIME = timedelta(seconds=60)
DRAINED = timedelta(seconds=150)
RUNS = int(os.environ.get("DRAIN_RUNS", "500"))
"""Open model calls when the worker is told to stop: as many as it takes."""
GRACE_SECONDS = 60


@tool
def look(name: str) -> str:
    """Look something up."""
    return f"{name} is here"


@tool(idempotent=True, local=True)
def near(name: str) -> str:
    """Look something up at once."""
    return f"{name} is near"


@tool(idempotent=True, cache="shared", ttl=timedelta(hours=1))
def known(name: str) -> str:
    """Look something up, once for all."""
    return f"{name} is known"


SCRIPT = [calls(("look", {"name": "a"}), ("near", {"name": "b"}), ("known", {"name": uuid4().hex})), "done"]


def make_app() -> App:
    agent = Agent("queued", model="scripted:x", tools=[look, near, known])
    return App(agents=[agent], providers=[ScriptedModel(SCRIPT)])


@pytest.fixture(scope="module")
async def apart(temporal: Client) -> AsyncIterator[tuple[PerdureClient, int]]:
    """Three workers, each for one kind of work."""
    queue, port = f"q-{uuid4().hex[:8]}", free_port()
    queues = {"model_task_queue": f"{queue}-models", "tool_task_queue": f"{queue}-tools"}
    tuned: dict[str, Any] = {"tuner": "resource", "target_cpu": 1, "target_memory": 1, "pollers": "auto"}
    async with AsyncExitStack() as stack:
        for work in ("models", "tools"):
            await stack.enter_async_context(
                worker(make_app(), temporal, queue=queue, serve=work, **queues, **tuned)
            )
        client = await stack.enter_async_context(
            worker(make_app(), temporal, queue=queue, serve="workflows", health_address=port, **queues)
        )
        yield client, port


async def test_each_kind_of_work_has_its_queue(apart: tuple[PerdureClient, int]) -> None:
    client, _ = apart
    started = await client.start_agent("queued", "go")
    assert (await client.result(started.workflow_id, timeout=TIME)).output == "done"
    history = await client.temporal.get_workflow_handle(started.workflow_id).fetch_history()
    scheduled = [event.activity_task_scheduled_event_attributes for event in history.events]
    found = Counter((each.activity_type.name, each.task_queue.name) for each in scheduled if each.activity_id)
    queue = client.task_queue
    assert found == {
        ("perdure.call_model", f"{queue}-models"): 2,
        ("perdure.call_tool", f"{queue}-tools"): 2,
    }
    transcript = await client.transcript(started.workflow_id)
    answers = [entry.message.to_bytes().decode() for entry in transcript if entry.message.role == "tool"]
    told = ("a is here", "b is near", "is known")
    assert all(text in answer for text, answer in zip(told, answers, strict=True))


async def test_a_worker_tells_its_health(apart: tuple[PerdureClient, int]) -> None:
    client, port = apart
    assert await ask_health(port, "/live") == (200, {"status": "live"})
    assert await ask_health(port, "/live", "HEAD") == (200, {})
    code, told = await ask_health(port, "/ready?verbose")
    assert (code, told["status"]) == (200, "ready")
    assert told["task_queues"][:2] == [client.task_queue, f"{client.task_queue}-shared"]
    assert (await ask_health(port, "/metrics"))[0] == 404
    assert (await ask_health(port, "/live", "POST"))[0] == 405


async def test_an_address_that_is_taken(apart: tuple[PerdureClient, int], temporal: Client) -> None:
    with pytest.raises(SettingsError, match="health_address: can't listen on 127"):
        async with worker(make_app(), temporal, health_address=apart[1]):
            pass


def _answer(turn: int, messages: list[dict[str, Any]]) -> FakeReply:
    return FakeReply(text="done")


async def _start(client: PerdureClient, runs: int) -> list[StartedRun]:
    """Start runs, not all in the same instant."""
    at_once = asyncio.Semaphore(20)

    async def start() -> StartedRun:
        async with at_once:
            return await client.start_agent("patient", "go")

    return await asyncio.gather(*(start() for _ in range(runs)))


@pytest.mark.alone
@pytest.mark.timeout(300)
async def test_sigterm_under_load_repeats_no_call(server: DevServer, temporal: Client) -> None:
    queue, port, released = f"q-{uuid4().hex[:8]}", free_port(), asyncio.Event()
    client = PerdureClient(temporal, task_queue=queue)
    settings = {"grace_period": GRACE_SECONDS, "health_address": port}
    async with ConversingServer(_answer, released=released) as fake:
        async with WorkerProcess(server.address, queue, APP, env=fake.env, **settings) as loaded:
            started = await _start(client, RUNS)
            async with asyncio.timeout(120):
                while fake.open_requests < RUNS:
                    await asyncio.sleep(0.05)
            stopping = asyncio.create_task(loaded.stop())
            while (await ask_health(port, "/ready"))[0] != 503:
                await asyncio.sleep(0.05)
            assert (await ask_health(port, "/live"))[0] == 200
            began = time.monotonic()
            released.set()
            assert await stopping == 0
            took = time.monotonic() - began
        assert took < GRACE_SECONDS
        assert (fake.answered[0], len(fake.asked)) == (RUNS, RUNS), "a call was cut, or made twice"
        async with WorkerProcess(server.address, queue, APP, env=fake.env):
            results = await asyncio.gather(*(client.result(run.workflow_id, timeout=DRAINED) for run in started))
    assert Counter(result.output for result in results) == {"done": RUNS}
    assert len(fake.asked) == RUNS, "a call was made twice"
    attempts = await asyncio.gather(*(_attempts(temporal, run.workflow_id) for run in started[::10]))
    assert set[int]().union(*attempts) == {1}
    print(f"{RUNS} calls: the worker was gone {took:.1f} s after they were answered")


async def _attempts(temporal: Client, workflow_id: str) -> set[int]:
    history = await temporal.get_workflow_handle(workflow_id).fetch_history()
    started = [event.activity_task_started_event_attributes for event in history.events]
    return {each.attempt for each in started if each.scheduled_event_id}
