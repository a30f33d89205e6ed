"""An outage of the first model: runs finish on the fallback, the circuit opens, and closes when it is over."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from temporalio.client import Client

from perdure import Agent, App, ModelSettings
from perdure.client import PerdureClient
from perdure.testing import ScriptedModel
from tests.fakes.http import Connection, Request
from tests.fakes.openai_server import OpenAIServer, error
from tests.fakes.replies import FakeReply
from tests.support.workers import worker

TIME = timedelta(seconds=60)
RUNS = 12


class Failing(OpenAIServer):
    """Answers 500 until it is well."""

    is_well = False
    failed = 0

    async def _answer(self, request: Request, connection: Connection) -> None:
        if self.is_well:
            await super()._answer(request, connection)
            return
        self.failed += 1
        await connection.answer_json(500, error("down"))


@pytest.fixture(scope="module")
async def vendor() -> AsyncIterator[Failing]:
    async with Failing(FakeReply(text="first")) as running:
        yield running


@pytest.fixture(scope="module")
async def client(temporal: Client, vendor: Failing) -> AsyncIterator[PerdureClient]:
    settings = ModelSettings(max_attempts=3)
    agent = Agent("asker", model=["flaky:m", "scripted:x"], settings=settings)
    app = App(
        agents=[agent, Agent("alone", model="flaky:m", settings=settings)], providers=[ScriptedModel(["second"])]
    )
    table = {"protocol": "openai", "base_url": vendor.base_url}
    async with worker(app, temporal, providers={"flaky": table}) as running:
        yield running


async def output(client: PerdureClient, agent: str) -> str:
    started = await client.start_agent(agent, "go")
    return (await client.result(started.workflow_id, timeout=TIME)).output


async def test_runs_finish_on_the_fallback_and_come_back(client: PerdureClient, vendor: Failing) -> None:
    assert set(await asyncio.gather(*(output(client, "asker") for _ in range(RUNS)))) == {"second"}
    assert 5 <= vendor.failed < RUNS * 3, "with the circuit open nobody asks"
    waiting = asyncio.create_task(output(client, "alone"))
    await asyncio.sleep(0.5)
    vendor.is_well = True
    assert await waiting == "first", "who has no fallback waits, without using up attempts"
    assert await output(client, "asker") == "first"
