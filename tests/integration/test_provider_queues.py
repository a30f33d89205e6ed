"""Model calls of a provider on a Task Queue of their own: pinned, and limited over all workers."""

import time
from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import uuid4

import pytest
from temporalio.client import Client

from perdure import Agent, App
from perdure.client import PerdureClient
from perdure.client._providers import limit_queue, queue_state
from perdure.errors import InvalidInputError
from perdure.testing import ScriptedModel
from tests.support.workers import worker

TIME = timedelta(seconds=60)
QUEUE = f"models-{uuid4().hex[:8]}"
RATE = 3.0

app = App(
    agents=[Agent("queued", model="scripted:x"), Agent("plain", model="other:x")],
    providers=[ScriptedModel(["done"]), ScriptedModel(["done"], name="other")],
)
TABLE = {"task_queue": QUEUE, "max_requests_per_second": RATE, "max_concurrent": 3}


@pytest.fixture(scope="module")
async def client(temporal: Client) -> AsyncIterator[PerdureClient]:
    async with worker(app, temporal, providers={"scripted": TABLE}) as running:
        yield running


async def queues_of_calls(client: PerdureClient, workflow_id: str) -> list[str]:
    handle = client.temporal.get_workflow_handle(workflow_id)
    history = await handle.fetch_history()
    found = [event.activity_task_scheduled_event_attributes for event in history.events]
    return [each.task_queue.name for each in found if each.activity_type.name == "perdure.call_model"]


@pytest.mark.parametrize(("agent", "has_own"), [("queued", True), ("plain", False)])
async def test_calls_go_to_the_queue_of_their_provider(client: PerdureClient, agent: str, has_own: bool) -> None:
    started = await client.start_agent(agent, "go")
    assert (await client.result(started.workflow_id, timeout=TIME)).output == "done"
    expected = QUEUE if has_own else client.task_queue
    assert await queues_of_calls(client, started.workflow_id) == [expected]


async def test_the_rate_is_that_of_the_settings_until_it_is_changed(client: PerdureClient) -> None:
    state = await queue_state(client.temporal, QUEUE)
    assert (state.workers, state.max_requests_per_second) == (1, RATE)
    state = await limit_queue(client.temporal, QUEUE, 50)
    assert (state.max_requests_per_second, state.set_by) == (50, "set by `perdure provider limit`")
    state = await limit_queue(client.temporal, QUEUE, None)
    assert state.max_requests_per_second == RATE


async def test_a_backlog_is_handed_out_at_the_rate(client: PerdureClient) -> None:
    began = time.monotonic()
    started = await client.start_map("queued", ["x"] * 15)
    await client.result(started.workflow_id, timeout=TIME)
    assert time.monotonic() - began > 1.5, "a burst of some twice the rate, then 3 a second"


@pytest.mark.parametrize("rate", [0, -1, float("nan"), 1e9])
async def test_no_rate(client: PerdureClient, rate: float) -> None:
    with pytest.raises(InvalidInputError, match="A rate is above 0"):
        await limit_queue(client.temporal, QUEUE, rate)
