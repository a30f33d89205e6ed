"""What the agent does by itself, and what it does when a person approves, denies, or says nothing for two days."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from shop.app import app
from shop.orders import refunds
from temporalio.worker import Worker

from perdure.client import PerdureClient
from perdure.connection import connect
from perdure.devserver import DevServer
from perdure.plugin import PerdurePlugin
from perdure.testing import AgentRun, assert_tool_called

AgentTest = Callable[..., AgentRun]
BROKEN = "The chest of order 1002 came broken: I want my money back."


@pytest.fixture(autouse=True)
def _books(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_REFUNDS", str(tmp_path / "refunds.json"))


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[PerdureClient]:
    """Return a client of a real server, the embedded one, with a worker."""
    async with DevServer(tmp_path, port=0, ui_port=0, in_memory=True) as server:
        temporal = await connect(address=server.address, plugins=[PerdurePlugin(app)])
        async with Worker(temporal, task_queue="shop"):
            yield PerdureClient(temporal, task_queue="shop", registry=app.registry)


async def start_and_wait(client: PerdureClient) -> str:
    """Start a run whose refund waits for a person, and return its workflow id."""
    run = await client.start_agent("support", BROKEN)
    while not (asked := [wait for each in await client.waits(run.workflow_id) for wait in each.waits]):
        await asyncio.sleep(0.05)
    assert asked[0].group == "support"
    return run.workflow_id


def test_an_order_is_looked_up(agent_test: AgentTest) -> None:
    run = agent_test(app, "support", "Where is my order 1001?")
    assert run.output == "Order 1001, a brass compass, is delivered on Monday."
    assert_tool_called(run, "find_order", {"number": 1001}, times=1)


def test_the_customer_is_asked_again_when_there_is_no_such_order(agent_test: AgentTest) -> None:
    assert "ask the customer" in str(agent_test(app, "support", "Where is order 4711?").output)


def test_a_small_refund_needs_nobody(agent_test: AgentTest) -> None:
    run = agent_test(app, "support", "The lid of 1001 is scratched, can I have a refund of $3?")
    assert run.output == "Refunded $3.00 of order 1001, $3.00 in all."


def test_when_nobody_decides_nothing_is_paid(agent_test: AgentTest) -> None:
    """Two days go by in a moment."""
    run = agent_test(app, "support", BROKEN)
    assert run.tool_uses[-1].outcome == "denied"
    assert refunds() == {}


async def test_a_person_decides(client: PerdureClient) -> None:
    denied, approved = await start_and_wait(client), await start_and_wait(client)
    await client.deny(denied, reason="We send another chest.")
    assert "We send another chest." in (await client.result(denied)).output
    assert refunds() == {}
    await client.approve(approved)
    assert (await client.result(approved)).output == "Refunded $310.00 of order 1002, $310.00 in all."
    assert [each["amount_usd"] for each in refunds().values()] == [310.0]
