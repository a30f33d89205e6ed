"""An outage of the first model: runs finish on the fallback, the circuit opens, and closes when it is over."""

import asyncio
import re
import socket
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from click.testing import CliRunner
from temporalio.client import Client

from perdure import Agent, App, ModelSettings
from perdure.cli import cli
from perdure.client import PerdureClient, Step, Timeline
from perdure.client._workers import ask_workers
from perdure.contracts.workers import ProviderState
from perdure.testing import ScriptedModel
from tests.fakes.http import Connection, Request
from tests.fakes.openai_server import OpenAIServer, error
from tests.fakes.replies import FakeReply
from tests.support.workers import worker

TIME = timedelta(seconds=60)
RUNS = 12
TRIES = 3


class Failing(OpenAIServer):
    """Refuses connections until its context is opened, and answers 500 until it is well."""

    is_well = False
    failed = 0

    def __init__(self) -> None:
        super().__init__(FakeReply(text="first"))
        self.listener = taken = socket.socket()
        taken.bind(("127.0.0.1", 0))
        self.port = taken.getsockname()[1]

    async def _answer(self, request: Request, connection: Connection) -> None:
        if self.is_well:
            await super()._answer(request, connection)
            return
        self.failed += 1
        await connection.answer_json(500, error("down"))


@pytest.fixture(scope="module")
def vendor() -> Failing:
    return Failing()


@pytest.fixture(scope="module")
async def client(temporal: Client, vendor: Failing) -> AsyncIterator[PerdureClient]:
    settings = ModelSettings(max_attempts=TRIES)
    agent = Agent("asker", model=["flaky:m", "scripted:x"], settings=settings)
    app = App(
        agents=[agent, Agent("alone", model="flaky:m", settings=settings)], providers=[ScriptedModel(["second"])]
    )
    table = {"protocol": "openai", "base_url": vendor.base_url}
    async with worker(app, temporal, providers={"flaky": table}) as running:
        yield running


async def output(client: PerdureClient, agent: str, workflow_id: str | None = None) -> str:
    started = await client.start_agent(agent, "go", id=workflow_id)
    return (await client.result(started.workflow_id, timeout=TIME)).output


async def told(client: PerdureClient) -> ProviderState:
    """Return what the worker says of the vendor when it is asked."""
    [view] = await ask_workers(client.temporal, client.task_queue)
    [state] = view.providers
    return state


def model_calls(found: Timeline) -> list[Step]:
    return [call for turn in found.steps for call in turn.steps if call.kind == "model"]


async def test_runs_finish_on_the_fallback_and_come_back(client: PerdureClient, vendor: Failing) -> None:
    names = [f"outage-{number}" for number in range(RUNS)]
    found = await asyncio.gather(*(output(client, "asker", name) for name in names))
    assert set(found) == {"second"}, "connections are refused"
    refused = await told(client)
    assert refused.circuit in ("open", "probing")
    assert 5 <= refused.failures < RUNS * TRIES, "with the circuit open nobody asks"
    async with vendor, asyncio.timeout(TIME.total_seconds()):
        waiting = asyncio.create_task(output(client, "alone"))
        while not vendor.failed:
            await asyncio.sleep(0.05)
        assert await output(client, "asker") == "second", "the probe was answered with 500"
        assert (await told(client)).circuit != "closed"
        vendor.is_well = True
        assert await waiting == "first", "who has no fallback waits, without using up attempts"
        assert await output(client, "asker") == "first"
        assert (await told(client)).circuit == "closed"


async def test_each_attempt_can_be_seen(client: PerdureClient) -> None:
    """Of the runs of the outage: what was tried, how often, and why it failed, from history alone."""
    for number in range(RUNS):
        first, second = model_calls(await client.trace(f"outage-{number}"))
        assert (first.model, first.outcome, second.model, second.outcome) == (
            "flaky:m",
            "failed",
            "scripted:x",
            "ok",
        )
        assert "can't reach the server" in first.failure or "found it down" in first.failure
        assert first.attempts >= 1


async def test_show_tells_what_was_tried_before_the_fallback(client: PerdureClient, temporal: Client) -> None:
    address = {"TEMPORAL_ADDRESS": temporal.service_client.config.target_host}
    for number in range(RUNS):
        details = await client.show(f"outage-{number}")
        (trouble,) = details.troubles
        (first, _) = model_calls(await client.trace(f"outage-{number}"))
        assert (trouble.model, trouble.is_answered, trouble.attempts) == ("flaky:m", False, first.attempts)
        assert first.failure == f"ModelCallError: {trouble.failure}"
        result = await asyncio.to_thread(CliRunner().invoke, cli, ["show", f"outage-{number}"], env=address)
        assert result.exit_code == 0, result.output
        assert re.search(rf"flaky:m failed after {first.attempts} attempts?: flaky: ", result.stdout)
