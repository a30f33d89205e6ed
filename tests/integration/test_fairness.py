"""Priority and fairness: all below a run inherits them, and a backlog of one tenant doesn't hold up another."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from temporalio.api.common.v1 import Priority
from temporalio.client import Client

from perdure import Agent, App
from perdure.client import PerdureClient
from perdure.client._fairness import is_fair
from perdure.client._providers import queue_state
from perdure.connection import connect
from perdure.contracts.messages import Message
from perdure.devserver import DevServer
from perdure.errors import InvalidInputError
from perdure.providers.base import ModelReply, ModelRequest, TextSink
from perdure.testing import ScriptedModel
from perdure.testing.scripted import calls
from tests.support.lineage_workflows import Heir
from tests.support.workers import worker

TIME = timedelta(seconds=60)
SLOTS = 2
BACKLOG = 24


class Gated(ScriptedModel):
    """Answers nobody while its gate is shut, and notes the order in which it was asked."""

    def __init__(self) -> None:
        super().__init__(["done"], name="gated")
        self.gate = asyncio.Event()
        self.asked: list[str] = []

    async def call(self, request: ModelRequest, on_text: TextSink) -> ModelReply:
        self.asked.append(Message.model_validate_json(request.fragments[0].body).text)
        await self.gate.wait()
        return await super().call(request, on_text)


gated = Gated()
worker_agent = Agent("worker", model="scripted:x")
boss = Agent("boss", model="boss:x", tools=[worker_agent.as_tool()])
app = App(
    agents=[worker_agent, boss, Agent("gated", model="gated:x")],
    workflows=[Heir],
    providers=[
        ScriptedModel(["done"]),
        ScriptedModel([calls(("worker", {"input": "x"})), "done"], name="boss"),
        gated,
    ],
)


@pytest.fixture(scope="module")
async def client(temporal: Client) -> AsyncIterator[PerdureClient]:
    async with worker(app, temporal, max_concurrent_activities=SLOTS) as running:
        yield running


async def kept(client: PerdureClient, workflow_id: str) -> Priority:
    """Return the priority of a run as the server keeps it."""
    handle = client.temporal.get_workflow_handle(workflow_id)
    return (await handle.describe()).raw_description.workflow_execution_info.priority


async def test_all_below_a_run_inherits(client: PerdureClient) -> None:
    started = await client.start_workflow("Heir", [1], id="heir", tenant="north", priority=2)
    assert await client.result(started.workflow_id, timeout=TIME) == [2, "north"]
    for workflow_id in ("heir", "heir/boss-1", "heir/boss-1/worker-1"):
        found = await kept(client, workflow_id)
        assert (found.priority_key, found.fairness_key) == (2, "north"), workflow_id


async def test_without_a_tenant_the_root_run_is_the_key(client: PerdureClient) -> None:
    name = "r" * 65
    for workflow_id, key in (("alone", "alone"), (name, "")):
        started = await client.start_map("worker", ["a"], id=workflow_id)
        await client.result(started.workflow_id, timeout=TIME)
        found = await kept(client, f"{workflow_id}/0")
        assert found.fairness_key == key or (not key and len(found.fairness_key) == 32)


async def until_waiting(client: PerdureClient, count: int) -> None:
    """Wait until so many calls are in the Task Queue, behind those that hold the slots."""
    async with asyncio.timeout(TIME.total_seconds()):
        while (await queue_state(client.temporal, client.task_queue)).backlog < count:
            await asyncio.sleep(0.1)


async def test_a_backlog_of_one_tenant_does_not_hold_up_another(client: PerdureClient) -> None:
    """Nothing is answered until all wait, so that the order of the calls is the server's alone."""
    big = await client.start_map("gated", ["big"] * BACKLOG, max_parallel=BACKLOG, tenant="big")
    await until_waiting(client, BACKLOG - SLOTS)
    late = await client.start_agent("gated", "late", tenant="big")
    await until_waiting(client, BACKLOG - SLOTS + 1)
    small = await client.start_agent("gated", "small", tenant="small")
    await until_waiting(client, BACKLOG - SLOTS + 2)
    assert gated.asked == ["big"] * SLOTS
    gated.gate.set()
    for started in (small, late, big):
        await client.result(started.workflow_id, timeout=TIME)
    assert gated.asked.index("late") > BACKLOG // 2, "behind the others of its tenant"
    assert gated.asked.index("small") < BACKLOG // 2, "it came last of all, and goes before most"


@pytest.mark.parametrize("is_on", [True, False])
async def test_doctor_finds_out_whether_it_is_on(is_on: bool, tmp_path: Path, temporal: Client) -> None:
    if is_on:
        assert await is_fair(temporal)
        return
    config = {"matching.enableFairness": "false"}
    async with DevServer(tmp_path, port=0, ui_port=0, in_memory=True, dynamic_config=config) as server:
        assert await is_fair(await connect(address=server.address)) is False


async def test_a_priority_out_of_range(client: PerdureClient) -> None:
    with pytest.raises(InvalidInputError, match=r"1 \(first\) to 5"):
        await client.start_agent("worker", "x", priority=6)
