"""Pausing a tree: what is in flight ends, nothing new is started anywhere, and then everything goes on."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from temporalio.api.enums.v1 import EventType
from temporalio.client import Client, WorkflowHandle

from perdure import Agent, App, ModelSettings, tool
from perdure.client import PerdureClient
from perdure.contracts.run import RunStatus
from perdure.errors import RunCancelled, RunNotFoundError
from tests.fakes.gated import Gated
from tests.fakes.replies import FakeCall, FakeReply
from tests.support.pause_workflows import Relay, Tree
from tests.support.workers import worker

TIME = timedelta(seconds=30)
ran: list[str] = []


@tool(idempotent=True)
async def note(text: str) -> str:
    """Note."""
    ran.append(text)
    return text


@pytest.fixture(scope="module")
async def vendor() -> AsyncIterator[Gated]:
    async with Gated() as fake:
        yield fake


@pytest.fixture(scope="module")
async def client(vendor: Gated, temporal: Client) -> AsyncIterator[PerdureClient]:
    settings = ModelSettings(max_output_tokens=100)
    child = Agent("child", description="Works.", model="fake:x", tools=[note], settings=settings)
    parent = Agent("parent", model="fake:x", tools=[child.as_tool()], settings=settings)
    providers = {"fake": {"protocol": "openai", "base_url": f"{vendor.url}/v1"}}
    app = App(agents=[parent, child], workflows=[Relay, Tree])
    async with worker(app, temporal, providers=providers) as made:
        yield made


async def _until_state(client: PerdureClient, id: str, state: str) -> RunStatus:
    async with asyncio.timeout(30):
        while True:
            status = RunStatus.model_validate(await client.query(id, "perdure.status"))
            if status.state == state:
                return status
            await asyncio.sleep(0.05)


async def test_a_tree_is_paused_and_goes_on(client: PerdureClient, vendor: Gated) -> None:
    root = (await client.start_workflow("Tree", [])).workflow_id
    await vendor.until_asked(1)
    vendor.replies.put_nowait(FakeReply(calls=(FakeCall("1", "child", '{"input": "work"}'),)))
    await vendor.until_asked(2)
    await client.pause(root)
    child = f"{root}/parent-1/child-1"
    await _until_state(client, child, "paused")
    vendor.replies.put_nowait(FakeReply(calls=(FakeCall("2", "note", '{"text": "a"}'),)))
    async with asyncio.timeout(30):
        while (await _until_state(client, child, "paused")).counters.turns == 0:
            await asyncio.sleep(0.05)
    await client.send(child, "hello", interrupt=True)
    assert (await _until_state(client, f"{root}/parent-1", "paused")).waiting == 0
    assert ran == []
    assert len(vendor.asked) == 2
    await client.resume(root)
    await vendor.until_asked(3)
    assert ran == ["a"]
    assert vendor.asked[2][-2:] == ["a", "hello"]
    for text in ("child's", "parent's"):
        vendor.replies.put_nowait(FakeReply(text=text))
    assert await client.result(root, timeout=TIME) == "parent's"
    assert ran == ["a", "parent's"]
    assert (await client.show(f"{root}/parent-1")).info.state == "completed"


async def test_a_workflow_that_continues_as_new_stays_paused(
    client: PerdureClient, vendor: Gated, temporal: Client
) -> None:
    asked = len(vendor.asked)
    id = (await client.start_workflow("Relay", [2])).workflow_id
    handle = temporal.get_workflow_handle(id)
    for leg in range(1, 3):
        await vendor.until_asked(asked + leg)
        run_id = (await handle.describe()).run_id
        await client.pause(id)
        vendor.replies.put_nowait(FakeReply(text="done"))
        async with asyncio.timeout(30):
            while (await handle.describe()).run_id == run_id or not await _is_taken_up(handle):
                await asyncio.sleep(0.05)
        assert len(vendor.asked) == asked + leg, "the run that continues it is not paused"
        await client.resume(id)
    await vendor.until_asked(asked + 3)
    vendor.replies.put_nowait(FakeReply(text="last"))
    assert await client.result(id, timeout=TIME) == "last"


async def _is_taken_up(handle: WorkflowHandle[Any, Any]) -> bool:
    """Say whether a worker has done the first step of a run; no child was started in it."""
    events = [event.event_type async for event in handle.fetch_history_events()]
    assert EventType.EVENT_TYPE_START_CHILD_WORKFLOW_EXECUTION_INITIATED not in events
    return EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED in events


async def test_a_run_that_is_paused_can_be_cancelled(client: PerdureClient, vendor: Gated) -> None:
    asked = len(vendor.asked)
    id = (await client.start_agent("child", "go")).workflow_id
    await vendor.until_asked(asked + 1)
    await client.pause(id)
    await _until_state(client, id, "paused")
    vendor.replies.put_nowait(FakeReply(text="on it", calls=(FakeCall("2", "note", '{"text": "b"}'),)))
    async with asyncio.timeout(30):
        while (await _until_state(client, id, "paused")).counters.turns == 0:
            await asyncio.sleep(0.05)
    await _until_state(client, id, "paused")
    await client.cancel(id)
    async with asyncio.timeout(30):
        while (info := (await client.show(id)).info).status == "running":
            await asyncio.sleep(0.05)
    assert (info.status, info.state) == ("canceled", "cancelled")
    with pytest.raises(RunCancelled) as caught:
        await client.result(id)
    assert caught.value.attributes == {"partial": "on it", "turns": 1}
    assert "b" not in ran
    with pytest.raises(RunNotFoundError, match="closed"):
        await client.pause(id)
