"""What live workers tell of limiters and circuits, and what holds when one doesn't answer."""

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from temporalio import activity
from temporalio.client import Client
from temporalio.worker import Worker

from perdure import Agent, App
from perdure.client import PerdureClient
from perdure.client._workers import ask_workers
from perdure.connection import connect
from perdure.devserver import DevServer
from tests.fakes.openai_server import OpenAIServer
from tests.fakes.replies import FakeReply
from tests.support.workers import worker

TIME = timedelta(seconds=60)
LIMITS = {"x_ratelimit_limit_requests": "600", "x_ratelimit_remaining_requests": "599"}


@pytest.fixture(scope="module")
async def client(temporal: Client) -> AsyncIterator[PerdureClient]:
    app = App(agents=[Agent("asker", model="vendor:m")])
    async with OpenAIServer(FakeReply(text="done"), **LIMITS) as vendor:
        table = {"protocol": "openai", "base_url": vendor.base_url}
        async with worker(app, temporal, providers={"vendor": table}) as running:
            yield running


@activity.defn
async def nothing() -> None:
    """Is polled for, by a worker that is none of perdure's."""


async def test_a_worker_tells_the_limits_that_it_learned(client: PerdureClient) -> None:
    found = await ask_workers(client.temporal, client.task_queue)
    while not found:  # the server hears of its poll a moment later
        found = await ask_workers(client.temporal, client.task_queue)
    [before] = found
    assert (before.providers, before.problem) == ((), "")
    started = await client.start_agent("asker", "go")
    await client.result(started.workflow_id, timeout=TIME)
    [after] = await ask_workers(client.temporal, client.task_queue)
    [state] = after.providers
    assert (state.provider, state.circuit, state.sharers) == ("vendor", "closed", 1)
    assert [(each.counted, each.per_minute) for each in state.limits] == [("requests", 600.0)]


async def test_a_worker_that_is_silent_holds_nobody_up(client: PerdureClient, server: DevServer) -> None:
    other = await connect(address=server.address)  # a client has one worker for a Task Queue
    stranger = Worker(other, task_queue=client.task_queue, activities=[nothing], identity="stranger")
    async with stranger:
        began = time.monotonic()
        found = await ask_workers(client.temporal, client.task_queue, timeout=timedelta(seconds=1))
        while len(found) < 2:  # the server hears of its poll a moment later
            found = await ask_workers(client.temporal, client.task_queue, timeout=timedelta(seconds=1))
        took = time.monotonic() - began
    [silent] = [each for each in found if each.problem]
    assert (silent.identity, silent.problem) == ("stranger", "no answer within 1 s")
    assert [state.provider for each in found for state in each.providers] == ["vendor"]
    assert took < TIME.total_seconds()


async def test_nothing_is_left_of_the_question(client: PerdureClient) -> None:
    await ask_workers(client.temporal, client.task_queue)
    asked = "ActivityType = 'perdure.describe_worker'"
    async with asyncio.timeout(TIME.total_seconds()):
        # The server's list is a little behind.
        while [each async for each in client.temporal.list_activities(asked)]:
            await asyncio.sleep(0.1)


async def test_nobody_is_asked_where_nobody_polls(client: PerdureClient) -> None:
    assert await ask_workers(client.temporal, "a-queue-that-nobody-polls") == []
