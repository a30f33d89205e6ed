"""An agent over many items: order, failures, the window, cancellation and sizes, on a real server."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from temporalio.api.workflowservice.v1 import CountWorkflowExecutionsRequest
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import Replayer, UnsandboxedWorkflowRunner

from perdure import Agent, App, Limits, tool
from perdure.client import PerdureClient
from perdure.contracts.map import MapResult
from perdure.contracts.messages import Message
from perdure.errors import PayloadTooLargeError, RunCancelled, UnexpectedModelBehavior
from perdure.providers.base import ModelReply, ModelRequest, TextSink
from perdure.testing import ScriptedModel
from perdure.wiring import sandboxed_runner
from perdure.workflows.agent import AgentWorkflow
from perdure.workflows.interceptor import PerdureInterceptor
from perdure.workflows.map_workflows import MapNode, MapWorkflow
from tests.support.map_workflows import Mapped, MappedSizes
from tests.support.workers import worker

TIME = timedelta(seconds=100)


def _echo(request: Any, messages: list[Message]) -> Any:
    text = messages[0].text
    if text.startswith("bad"):
        return Message(role="assistant", stop="end")
    if text.startswith("size "):
        return "é" * int(text.removeprefix("size "))
    return f"echo {text}"


class CountingModel(ScriptedModel):
    """Knows how many calls are open at once."""

    open = 0
    most = 0

    async def call(self, request: ModelRequest, on_text: TextSink) -> ModelReply:
        self.open += 1
        self.most = max(self.most, self.open)
        try:
            return await super().call(request, on_text)
        finally:
            self.open -= 1


@tool(idempotent=True)
def note(text: str) -> str:
    """Note something."""
    return text


counting = CountingModel(_echo, name="counting", delay_seconds=0.05)
app = App(
    agents=[
        Agent("echo", model="echo:x", limits=Limits(max_consecutive_errors=1)),
        Agent("counted", model="counting:x"),
        Agent("slow", model="slow:x"),
    ],
    tools=[note],
    workflows=[Mapped, MappedSizes],
    providers=[
        ScriptedModel(_echo, name="echo"),
        counting,
        ScriptedModel(["too late"], name="slow", delay_seconds=90),
    ],
)


@pytest.fixture(scope="module")
async def client(temporal: Client) -> AsyncIterator[PerdureClient]:
    async with worker(app, temporal) as running:
        yield running


def _items(count: int) -> list[str]:
    return [f"item {number}" for number in range(count)]


def _echoes(count: int) -> list[str]:
    return [f"echo item {number}" for number in range(count)]


async def _count(client: PerdureClient, query: str) -> int:
    request = CountWorkflowExecutionsRequest(namespace=client.temporal.namespace, query=query)
    return (await client.temporal.workflow_service.count_workflow_executions(request)).count


async def _until(client: PerdureClient, query: str, expected: int) -> None:
    for _ in range(300):
        found = await _count(client, query)
        if found == expected:
            return
        await asyncio.sleep(0.1)
    raise AssertionError(f"{found} rather than {expected} runs: {query}")


@pytest.mark.parametrize("count", [0, 1, 30])
async def test_few_items_are_children_of_the_caller(client: PerdureClient, count: int) -> None:
    run = await client.start_workflow("Mapped", ["echo", _items(count), 10, "fail"])
    assert await client.result(run.workflow_id, timeout=TIME) == _echoes(count)
    assert await _count(client, f"ParentWorkflowId = '{run.workflow_id}' AND WorkflowType = 'MapNode'") == 0


async def test_many_items_are_a_tree(client: PerdureClient) -> None:
    run = await client.start_workflow("Mapped", ["counted", _items(450), 20, "fail"])
    assert await client.result(run.workflow_id, timeout=TIME) == _echoes(450)
    assert 15 <= counting.most <= 20
    children = f"ParentWorkflowId = '{run.workflow_id}'"
    await _until(client, f"{children} AND WorkflowType = 'AgentWorkflow'", 0)
    assert 20 <= await _count(client, f"{children} AND WorkflowType = 'MapNode'") <= 200


@pytest.mark.parametrize("count", [20, 210])
async def test_collect_returns_failures_in_their_places(client: PerdureClient, count: int) -> None:
    items = _items(count)
    items[7] = "bad"
    run = await client.start_workflow("Mapped", ["echo", items, 20, "collect"])
    result = await client.result(run.workflow_id, timeout=TIME)
    kind, message, attributes = result.pop(7)
    assert kind == "UnexpectedModelBehavior"
    assert message.startswith("item 7: agent 'echo': 1 replies in a row could not be used")
    assert (attributes["item"], attributes["agent"]) == (7, "echo")
    assert result == _echoes(count)[:7] + _echoes(count)[8:]


@pytest.mark.parametrize("count", [20, 210])
async def test_fail_names_the_item_and_leaves_nothing_open(client: PerdureClient, count: int) -> None:
    run = await client.start_workflow("Mapped", ["echo", [*_items(count - 1), "bad"], 5, "fail"])
    with pytest.raises(UnexpectedModelBehavior, match=f"^item {count - 1}: agent 'echo': 1 replies") as caught:
        await client.result(run.workflow_id, timeout=TIME)
    assert (caught.value.attributes["item"], caught.value.attributes["agent"]) == (count - 1, "echo")
    root = f"RootWorkflowId = '{run.workflow_id}'"
    await _until(client, f"{root} AND ExecutionStatus = 'Terminated'", 0)
    await _until(client, f"{root} AND ExecutionStatus = 'Running'", 0)


@pytest.mark.parametrize("count", [30, 300])
async def test_cancelling_waits_for_every_run(client: PerdureClient, count: int) -> None:
    run = await client.start_workflow("Mapped", ["slow", _items(count), 24, "fail"])
    agents = f"RootWorkflowId = '{run.workflow_id}' AND WorkflowType = 'AgentWorkflow'"
    await _until(client, f"{agents} AND ExecutionStatus = 'Running'", 24)
    await client.cancel(run.workflow_id)
    with pytest.raises(RunCancelled):
        await client.result(run.workflow_id, timeout=TIME)
    await _until(client, f"{agents} AND ExecutionStatus = 'Canceled'", 24)
    root = f"RootWorkflowId = '{run.workflow_id}'"
    await _until(client, f"{root} AND ExecutionStatus = 'Running'", 0)
    assert await _count(client, f"{root} AND ExecutionStatus = 'Terminated'") == 0
    history = await client.temporal.get_workflow_handle(run.workflow_id).fetch_history()
    assert "cleaned up" in history.to_json(), "the clean-up did not run"


async def test_large_outputs_are_read_from_the_nodes(client: PerdureClient) -> None:
    sizes = [20_000] * 205 + [300_000, 3]
    run = await client.start_workflow("MappedSizes", ["echo", [f"size {size}" for size in sizes]])
    assert await client.result(run.workflow_id, timeout=TIME) == sizes


async def test_outputs_that_no_history_holds_are_refused(client: PerdureClient) -> None:
    run = await client.start_workflow("MappedSizes", ["echo", ["size 240000"] * 60])
    with pytest.raises(PayloadTooLargeError, match="let the agent store them"):
        await client.result(run.workflow_id, timeout=TIME)


async def test_a_map_of_its_own(client: PerdureClient) -> None:
    run = await client.start_map("echo", ["a", "bad", "c"], max_parallel=2, on_error="collect")
    result = await client.result(run.workflow_id, timeout=TIME)
    assert isinstance(result, MapResult)
    assert [outcome.output for outcome in result.outcomes] == ["echo a", None, "echo c"]
    failure = result.outcomes[1].failure
    assert failure is not None
    assert failure.type == "UnexpectedModelBehavior"
    assert (result.total, result.failed) == (3, 1)
    progress = await client.map_progress(run.workflow_id)
    assert (progress.total, progress.done, progress.failed, progress.running) == (3, 2, 1, 0)


async def test_a_result_over_its_limit_is_a_manifest(client: PerdureClient) -> None:
    run = await client.start_map("echo", [f"size {1_000 + number}" for number in range(500)], max_parallel=20)
    raw: Any = await client.temporal.get_workflow_handle(run.workflow_id).result()
    assert "outcomes" not in raw
    assert len(raw["pages"]) > 10
    result = await client.result(run.workflow_id, timeout=TIME)
    assert [len(each.output) for each in result.outcomes] == [1_000 + number for number in range(500)]


async def test_progress_counts_items_of_open_nodes(client: PerdureClient) -> None:
    run = await client.start_map("slow", _items(12), max_parallel=6)
    for _ in range(100):
        progress = await client.map_progress(run.workflow_id)
        if progress.running == 6:
            break
        await asyncio.sleep(0.1)
    assert (progress.total, progress.done, progress.running) == (12, 0, 6)
    await client.cancel(run.workflow_id)
    with pytest.raises(RunCancelled):
        await client.result(run.workflow_id, timeout=TIME)


@pytest.mark.parametrize("is_sandboxed", [False, True], ids=["outside", "sandboxed"])
async def test_it_replays(client: PerdureClient, is_sandboxed: bool) -> None:
    run = await client.start_map("echo", [*_items(20), "bad"], max_parallel=4, on_error="collect")
    result = await client.result(run.workflow_id, timeout=TIME)
    assert result.failed == 1
    own = await client.start_workflow("Mapped", ["echo", _items(12), 5, "fail"])
    await client.result(own.workflow_id, timeout=TIME)
    replayer = Replayer(
        workflows=[AgentWorkflow, MapNode, MapWorkflow, Mapped],
        data_converter=pydantic_data_converter,
        interceptors=[PerdureInterceptor()],
        workflow_runner=sandboxed_runner(),
        unsandboxed_workflow_runner=sandboxed_runner() if is_sandboxed else UnsandboxedWorkflowRunner(),
    )
    for workflow_id in (own.workflow_id, run.workflow_id, f"{run.workflow_id}/items-0-4"):
        handle = client.temporal.get_workflow_handle(workflow_id)
        await replayer.replay_workflow(await handle.fetch_history())
