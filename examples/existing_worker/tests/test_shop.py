"""The shop's own tests: its amounts, its codec and its audit are as before, and the agent answers."""

import sys
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path

import pytest
from shop.agents import app
from shop.money import Amount, converter
from shop.refunds import Refund
from shop.worker import QUEUE, Audit, make_worker
from temporalio.client import Client, WorkflowHandle
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Replayer

from perdure.client import PerdureClient
from perdure.plugin import PerdurePlugin

AMOUNT = Amount(Decimal("12.30"), "EUR")


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    """Return a client as the worker makes it, of Temporal's test server."""
    binary = str(Path(sys.executable).with_name("temporal-test-server"))
    environment = await WorkflowEnvironment.start_time_skipping(
        test_server_existing_path=binary, data_converter=converter, plugins=[PerdurePlugin(app)]
    )
    async with environment:
        yield environment.client


async def test_a_refund_asks_the_agent_and_pays(client: Client) -> None:
    audit = Audit()
    async with make_worker(client, audit):
        handle: WorkflowHandle[Refund, str] = await client.start_workflow(
            Refund.run, args=[AMOUNT, "When are refunds paid?"], id="refund-1", task_queue=QUEUE
        )
        said = await handle.result()
    assert said.startswith("12.30 EUR: ")
    assert "within fourteen days. [source: terms:1]" in said
    assert {"pay", "call_model", "call_tool"} <= set(audit.names), "the audit sees all activities"
    history = await handle.fetch_history()
    started = history.events[0].workflow_execution_started_event_attributes
    assert {payload.metadata["encoding"] for payload in started.input.payloads} == {b"shop/zlib"}
    await Replayer(workflows=[Refund], data_converter=converter, plugins=[PerdurePlugin(app)]).replay_workflow(
        history
    )


async def test_a_service_of_the_shop_starts_agents(client: Client) -> None:
    async with make_worker(client, Audit()):
        agents = PerdureClient(client, task_queue=QUEUE, registry=app.registry)
        run = await agents.start_agent("clerk", "Can parcels be sent back?")
        result = await client.get_workflow_handle(run.workflow_id).result()
    assert "opened can be sent back" in str(result)
