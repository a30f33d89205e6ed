"""An agent over many items: order, failures, the window, cancellation and sizes, on a real server."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any, Literal

import pytest
from temporalio.api.enums.v1 import EventType
from temporalio.api.workflowservice.v1 import CountWorkflowExecutionsRequest
from temporalio.client import Client, WorkflowHistory
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
from tests.support.map_workflows import Mapped, MappedSizes, TreeSizes
from tests.support.workers import worker

TIME = timedelta(seconds=100)
Kind = Literal["direct", "tree"]
kinds = pytest.mark.parametrize("kind", ["direct", "tree"])


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


counting = CountingModel(_echo, name="counting", delay_seconds=1)
app = App(
    agents=[
        Agent("echo", model="echo:x", limits=Limits(max_consecutive_errors=1)),
        Agent("counted", model="counting:x"),
        Agent("slow", model="slow:x"),
    ],
    tools=[note],
    workflows=[Mapped, MappedSizes, TreeSizes],
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
    found = -1
    for _ in range(300):
        found = await _count(client, query)
        if found == expected:
            return
        await asyncio.sleep(0.1)
    raise AssertionError(f"{found} rather than {expected} runs: {query}")


async def _start(client: PerdureClient, kind: Kind, agent: str, items: list[str], **options: Any) -> str:
    if kind == "tree":
        return (await client.start_map(agent, items, **options)).workflow_id
    args = [agent, items, options.get("max_parallel", 50), options.get("on_error", "fail")]
    return (await client.start_workflow("Mapped", args)).workflow_id


async def _end(client: PerdureClient, workflow_id: str) -> list[Any]:
    """Return outputs, and failures as type, message and attributes."""
    result: Any = await client.result(workflow_id, timeout=TIME)
    if not isinstance(result, MapResult):
        return result
    assert [outcome.index for outcome in result.outcomes] == list(range(result.total))
    return [
        each.output if each.failure is None else [each.failure.type, each.failure.message, each.failure.attributes]
        for each in result.outcomes
    ]


@kinds
@pytest.mark.parametrize("count", [0, 1, 12])
async def test_outputs_come_in_order_and_the_window_holds(client: PerdureClient, kind: Kind, count: int) -> None:
    counting.most = 0
    workflow_id = await _start(client, kind, "counted", _items(count), max_parallel=6)
    assert await _end(client, workflow_id) == _echoes(count)
    assert counting.most <= 6
    assert count < 12 or counting.most >= 4


@kinds
async def test_collect_returns_failures_in_their_places(client: PerdureClient, kind: Kind) -> None:
    items = _items(20)
    items[7] = "bad"
    workflow_id = await _start(client, kind, "echo", items, max_parallel=10, on_error="collect")
    result = await _end(client, workflow_id)
    failure, message, attributes = result.pop(7)
    assert failure == "UnexpectedModelBehavior"
    assert message.startswith("item 7: agent 'echo': 1 replies in a row could not be used")
    assert (attributes["item"], attributes["agent"]) == (7, "echo")
    assert result == _echoes(20)[:7] + _echoes(20)[8:]


@kinds
async def test_fail_names_the_item_and_leaves_nothing_open(client: PerdureClient, kind: Kind) -> None:
    workflow_id = await _start(client, kind, "echo", [*_items(10), "bad", *_items(10)], max_parallel=4)
    with pytest.raises(UnexpectedModelBehavior, match="item 10: agent 'echo': 1 replies") as caught:
        await client.result(workflow_id, timeout=TIME)
    assert (caught.value.attributes["item"], caught.value.attributes["agent"]) == (10, "echo")
    await _until(client, f"RootWorkflowId = '{workflow_id}' AND ExecutionStatus = 'Running'", 0)
    assert await _count(client, f"RootWorkflowId = '{workflow_id}' AND ExecutionStatus = 'Terminated'") == 0


@kinds
async def test_cancelling_waits_for_every_run(client: PerdureClient, kind: Kind) -> None:
    workflow_id = await _start(client, kind, "slow", _items(20), max_parallel=12)
    root = f"RootWorkflowId = '{workflow_id}'"
    await _until(client, f"{root} AND WorkflowType = 'AgentWorkflow' AND ExecutionStatus = 'Running'", 12)
    await client.cancel(workflow_id)
    with pytest.raises(RunCancelled):
        await client.result(workflow_id, timeout=TIME)
    await _until(client, f"{root} AND WorkflowType = 'AgentWorkflow' AND ExecutionStatus = 'Canceled'", 12)
    await _until(client, f"{root} AND ExecutionStatus = 'Running'", 0)
    assert await _count(client, f"{root} AND ExecutionStatus = 'Terminated'") == 0
    assert await _count(client, f"{root} AND ExecutionStatus = 'Failed'") == 0
    if kind == "direct":
        history = await client.temporal.get_workflow_handle(workflow_id).fetch_history()
        assert "perdure.run_tool" in history.to_json(), "the clean-up did not run"


@kinds
async def test_items_have_their_attributes_from_the_start(client: PerdureClient, kind: Kind) -> None:
    """So that each is found while it is at work, and writes them once, at its end."""
    workflow_id = await _start(client, kind, "echo", _items(11), tenant="north")
    assert await _end(client, workflow_id) == _echoes(11)
    item = f"{workflow_id}/echo-map-1/3" if kind == "direct" else f"{workflow_id}/3"
    history = await client.temporal.get_workflow_handle(item).fetch_history()
    started = history.events[0].workflow_execution_started_event_attributes.search_attributes.indexed_fields
    assert {"PerdureAgent", "PerdureModel", "PerdureState"} <= started.keys()
    upsert = EventType.EVENT_TYPE_UPSERT_WORKFLOW_SEARCH_ATTRIBUTES
    assert sum(event.event_type == upsert for event in history.events) == 1


@pytest.mark.parametrize(("count", "nodes"), [(200, 0), (201, 1)])
async def test_more_items_than_a_history_should_hold_are_a_tree(
    client: PerdureClient, count: int, nodes: int
) -> None:
    """The first item fails, and ends it: what is looked at is who began it."""
    workflow_id = await _start(client, "direct", "echo", ["bad"] * count, max_parallel=1)
    with pytest.raises(UnexpectedModelBehavior, match="item 0: agent 'echo'"):
        await client.result(workflow_id, timeout=TIME)
    children = f"ParentWorkflowId = '{workflow_id}'"
    await _until(client, f"{children} AND WorkflowType = 'MapNode'", nodes)
    await _until(client, f"{children} AND WorkflowType = 'AgentWorkflow'", 1 - nodes)


async def test_outputs_over_a_limit_are_read_from_the_nodes(client: PerdureClient) -> None:
    """They are more than 1 MiB together, and one of them is in no result: it is read from its run."""
    sizes = [1, 2, 3, *[50_000] * 12, 300_000, 4]
    run = await client.start_workflow("TreeSizes", ["echo", [f"size {size}" for size in sizes]])
    assert await client.result(run.workflow_id, timeout=TIME) == sizes
    children = f"ParentWorkflowId = '{run.workflow_id}'"
    await _until(client, f"{children} AND WorkflowType = 'AgentWorkflow'", 0)
    assert 3 <= await _count(client, f"{children} AND WorkflowType = 'MapNode'") <= 15
    history = await client.temporal.get_workflow_handle(run.workflow_id).fetch_history()
    assert "perdure.read_page" in history.to_json(), "nothing was left in a node"


async def test_outputs_that_no_history_holds_are_refused(client: PerdureClient) -> None:
    run = await client.start_workflow("MappedSizes", ["echo", ["size 240000"] * 40])
    with pytest.raises(PayloadTooLargeError, match="let the agent store them"):
        await client.result(run.workflow_id, timeout=TIME)


async def test_a_result_over_its_limit_is_a_manifest(client: PerdureClient) -> None:
    sizes = [24_000 + number for number in range(25)]
    run = await client.start_map("echo", [f"size {size}" for size in sizes], max_parallel=20)
    raw: Any = await client.temporal.get_workflow_handle(run.workflow_id).result()
    assert "outcomes" not in raw
    assert len(raw["pages"]) == 5
    result: Any = await client.result(run.workflow_id, timeout=TIME)
    assert [len(each.output) for each in result.outcomes] == sizes


async def test_a_node_with_large_results_leaves_the_rest_to_another(client: PerdureClient) -> None:
    run = await client.start_map("echo", ["size 200000"] * 12, max_parallel=1)
    raw: Any = await client.temporal.get_workflow_handle(run.workflow_id).result()
    assert [page["count"] for page in raw["pages"]] == [5, 5, 2]
    result: Any = await client.result(run.workflow_id, timeout=TIME)
    assert [len(each.output) for each in result.outcomes] == [200_000] * 12


async def test_progress_counts_items_of_open_nodes(client: PerdureClient) -> None:
    run = await client.start_map("slow", _items(12), max_parallel=6)
    progress = await client.map_progress(run.workflow_id)
    for _ in range(100):
        if progress.running == 6:
            break
        await asyncio.sleep(0.1)
        progress = await client.map_progress(run.workflow_id)
    assert (progress.total, progress.done, progress.running) == (12, 0, 6)
    await client.cancel(run.workflow_id)
    with pytest.raises(RunCancelled):
        await client.result(run.workflow_id, timeout=TIME)


@pytest.fixture(scope="module")
async def histories(client: PerdureClient) -> list[WorkflowHistory]:
    """Of a map with a failure, of one of its nodes, and of a user's workflow."""
    tree = await _start(client, "tree", "echo", [*_items(11), "bad"], max_parallel=4, on_error="collect")
    own = await _start(client, "direct", "echo", _items(12), max_parallel=5)
    await _end(client, tree)
    await _end(client, own)
    ids = [tree, f"{tree}/items-0-3", own]
    return [await client.temporal.get_workflow_handle(each).fetch_history() for each in ids]


@pytest.mark.parametrize("is_sandboxed", [False, True], ids=["outside", "sandboxed"])
async def test_it_replays(histories: list[WorkflowHistory], is_sandboxed: bool) -> None:
    replayer = Replayer(
        workflows=[AgentWorkflow, MapNode, MapWorkflow, Mapped],
        data_converter=pydantic_data_converter,
        interceptors=[PerdureInterceptor()],
        workflow_runner=sandboxed_runner(),
        unsandboxed_workflow_runner=sandboxed_runner() if is_sandboxed else UnsandboxedWorkflowRunner(),
    )
    for history in histories:
        await replayer.replay_workflow(history)
