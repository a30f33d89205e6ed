"""Priority and fairness: all below a run inherits them, and a backlog of one tenant doesn't hold up another."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from temporalio.api.common.v1 import Priority
from temporalio.client import Client

from perdure import Agent, App
from perdure.client import PerdureClient
from perdure.errors import InvalidInputError
from perdure.testing import ScriptedModel
from perdure.testing.scripted import calls
from tests.support.lineage_workflows import Heir
from tests.support.workers import worker

TIME = timedelta(seconds=60)
SLOTS = 4
CALL_SECONDS = 0.5

worker_agent = Agent("worker", model="scripted:x")
boss = Agent("boss", model="boss:x", tools=[worker_agent.as_tool()])
app = App(
    agents=[worker_agent, boss],
    workflows=[Heir],
    providers=[
        ScriptedModel(["done"], delay_seconds=CALL_SECONDS),
        ScriptedModel([calls(("worker", {"input": "x"})), "done"], name="boss"),
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


async def test_a_backlog_of_one_tenant_does_not_hold_up_another(client: PerdureClient) -> None:
    backlog = 60
    await client.start_map("worker", ["x"] * backlog, id="big", max_parallel=backlog, tenant="big")
    while (await client.map_progress("big")).done < SLOTS:
        await asyncio.sleep(0.05)
    single = await client.start_agent("worker", "x", tenant="small")
    await client.result(single.workflow_id, timeout=TIME)
    left = backlog - (await client.map_progress("big")).done
    await client.terminate("big", reason="seen enough")
    assert left > backlog // 4, "without fairness its call is the last"


async def test_a_priority_out_of_range(client: PerdureClient) -> None:
    with pytest.raises(InvalidInputError, match=r"1 \(first\) to 5"):
        await client.start_agent("worker", "x", priority=6)
