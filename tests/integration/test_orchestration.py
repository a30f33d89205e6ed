"""Agents as steps of users' own workflows, and agents as tools of agents."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from temporalio.api.workflowservice.v1 import CountWorkflowExecutionsRequest
from temporalio.client import Client

from perdure import Agent, App, Limits
from perdure.client import PerdureClient
from perdure.client._children import ChildReader
from perdure.contracts.messages import Message
from perdure.contracts.run import RunResult
from perdure.errors import InvalidInputError, RunCancelled, RunNotFoundError, UnexpectedModelBehavior
from perdure.history import read_run
from perdure.testing import ScriptedModel, calls
from tests.integration.test_turns import TOOLS, results
from tests.support.own_workflows import CleanUp, FanOut, Race, Short, Steps, ToolTroubles, Twins
from tests.support.workers import worker

TIME = timedelta(seconds=60)


def _echo(request: Any, messages: list[Message]) -> Any:
    text = messages[0].text
    if text.startswith("bad"):
        return Message(role="assistant", stop="end")
    return f"echo {text}"


def _work(request: Any, messages: list[Message]) -> Any:
    asked = any(message.role == "assistant" for message in messages)
    return (
        f"worked on {messages[0].text}" if asked else calls(("add", {"a": 1, "b": 2}), ("square", {"number": 3}))
    )


echo = Agent("echo", model="echo:x", limits=Limits(max_consecutive_errors=1))
slow = Agent("slow", model="slow:x")
app = App(
    agents=[
        echo,
        Agent("worker", model="work:x", tools=TOOLS),
        Agent("boss", model="boss:x", tools=[echo.as_tool(), *TOOLS]),
        slow,
        Agent("chief", model="chief:x", tools=[slow.as_tool()]),
        Agent("late", model="late:x", limits=Limits(max_consecutive_errors=1)),
        Agent("matryoshka", model="doll:x", tools=[echo.as_tool()], limits=Limits(max_depth=0)),
    ],
    workflows=[Steps, FanOut, Race, ToolTroubles, Short, CleanUp, Twins],
    providers=[
        ScriptedModel(_echo, name="echo"),
        ScriptedModel(_work, name="work"),
        ScriptedModel(
            [calls(("echo", {"input": "one"}), ("echo", {"input": "bad"}), ("echo", {"text": "x"})), "the end"],
            name="boss",
        ),
        ScriptedModel([calls(("echo", {"input": "one"})), "the end"], name="doll"),
        ScriptedModel([calls(("slow", {"input": "one"})), "without it, then"], name="chief"),
        ScriptedModel(["too late"], name="slow", delay_seconds=60),
        ScriptedModel(_echo, name="late", delay_seconds=1.5),
    ],
)


@pytest.fixture(scope="module")
async def client(temporal: Client) -> AsyncIterator[PerdureClient]:
    async with worker(app, temporal) as running:
        yield running


async def test_agents_and_tools_are_steps(client: PerdureClient) -> None:
    run = await client.start_workflow("Steps", ["hello"])
    assert await client.result(run.workflow_id, timeout=TIME) == ["echo hello", "worked on hello", 42]


async def test_an_inline_conversation_is_read_back_from_history(client: PerdureClient) -> None:
    run = await client.start_workflow("Steps", ["hello"])
    await client.result(run.workflow_id, timeout=TIME)
    recorded = await read_run(client.temporal, run.workflow_id)
    conversation = recorded.conversation("worker-1")
    assert [conversation[slot].role for slot in sorted(conversation)] == [
        "user",
        "assistant",
        "tool",
        "tool",
        "assistant",
    ]


async def test_an_inline_agent_works_without_a_cache(temporal: Client) -> None:
    async with worker(app, temporal, message_cache_bytes=0) as client:
        run = await client.start_workflow("Steps", ["hello " * 2000])
        result = await client.result(run.workflow_id, timeout=TIME)
    assert result[1].startswith("worked on hello")


async def test_collect_returns_failures_in_their_places(client: PerdureClient) -> None:
    run = await client.start_workflow("FanOut", [["a", "bad 1", "b"], "collect", 2])
    first, failed, last = await client.result(run.workflow_id, timeout=TIME)
    assert (first, last) == ("echo a", "echo b")
    assert failed.startswith("UnexpectedModelBehavior: agent 'echo': 1 replies in a row could not be used")


async def test_fail_names_the_agent_and_starts_no_more(client: PerdureClient) -> None:
    run = await client.start_workflow("FanOut", [["bad", "a"], "fail", 1])
    with pytest.raises(UnexpectedModelBehavior, match="agent 'echo'"):
        await client.result(run.workflow_id, timeout=TIME)
    assert await _children(client, run.workflow_id) == ["failed"]


async def test_fail_cancels_what_is_at_work_and_waits_for_it(client: PerdureClient) -> None:
    run = await client.start_workflow("Race", [5])
    with pytest.raises(UnexpectedModelBehavior, match="agent 'late'"):
        await client.result(run.workflow_id, timeout=TIME)
    assert sorted(await _children(client, run.workflow_id)) == ["canceled"] * 5 + ["failed"]


async def _children(client: PerdureClient, workflow_id: str) -> list[str]:
    """Return how the children of a run ended, as its own history has it: before it did."""
    reader = ChildReader(client.temporal.data_converter)
    async for event in client.temporal.get_workflow_handle(workflow_id).fetch_history_events():
        await reader.read(event)
    return [child.status for child in reader.children.values()]


async def test_a_tool_step_fails_with_a_type(client: PerdureClient) -> None:
    run = await client.start_workflow("ToolTroubles", [])
    told = await client.result(run.workflow_id, timeout=TIME)
    assert told[0] == "ToolError: fail failed: ValueError: no"
    assert told[1].startswith("UnknownToolError: There is no tool 'ad'. Did you mean 'add'?")
    assert told[2].startswith("ToolError: Invalid arguments. a: ")


async def test_limits_of_a_step_hold(client: PerdureClient) -> None:
    run = await client.start_workflow("Short", [])
    assert await client.result(run.workflow_id, timeout=TIME) == "worked on go"


async def test_an_agent_is_a_tool_of_another(client: PerdureClient) -> None:
    run = await client.start_agent("boss", "go")
    result = await client.result(run.workflow_id, timeout=TIME)
    entries = await client.transcript(run.workflow_id)
    assert isinstance(result, RunResult)
    assert result.output == "the end"
    told = results([entry.message for entry in entries])
    assert told[0] == ("ok", "echo one")
    assert told[1][0] == "error"
    assert told[1][1].startswith("agent 'echo': 1 replies in a row")
    assert told[2] == ("error", "Invalid arguments: call echo with a text, as 'input'.")


async def test_agents_call_agents_so_deep_and_no_deeper(client: PerdureClient) -> None:
    run = await client.start_agent("matryoshka", "go")
    await client.result(run.workflow_id, timeout=TIME)
    told = results([entry.message for entry in await client.transcript(run.workflow_id)])
    assert told[0] == ("error", "Not run: agents may call agents 0 levels deep (max_depth).")


async def test_cancelling_waits_for_every_child(client: PerdureClient) -> None:
    count = 20
    run = await client.start_workflow("CleanUp", [count])
    children = f"ParentWorkflowId = '{run.workflow_id}'"
    await _until(client, f"{children} AND ExecutionStatus = 'Running'", count)
    await client.cancel(run.workflow_id)
    with pytest.raises(RunCancelled):
        await client.result(run.workflow_id, timeout=TIME)
    await _until(client, f"{children} AND ExecutionStatus = 'Canceled'", count)
    history = await client.temporal.get_workflow_handle(run.workflow_id).fetch_history()
    assert "perdure.run_tool" in history.to_json(), "the clean-up did not run"


async def test_cancelling_a_subagent_alone_tells_its_caller(client: PerdureClient) -> None:
    run = await client.start_agent("chief", "go")
    await _until(client, f"ParentWorkflowId = '{run.workflow_id}' AND ExecutionStatus = 'Running'", 1)
    await client.cancel(f"{run.workflow_id}/slow-1")
    result = await client.result(run.workflow_id, timeout=TIME)
    assert isinstance(result, RunResult)
    assert result.output == "without it, then"
    told = results([entry.message for entry in await client.transcript(run.workflow_id)])
    assert told == [("error", "agent 'slow': its run was cancelled.")]


async def test_cancelling_a_step_alone_fails_the_workflow_with_a_type(client: PerdureClient) -> None:
    run = await client.start_workflow("CleanUp", [1])
    await _until(client, f"ParentWorkflowId = '{run.workflow_id}' AND ExecutionStatus = 'Running'", 1)
    await client.cancel(f"{run.workflow_id}/slow-1")
    with pytest.raises(RunCancelled, match="agent 'slow': its run was cancelled"):
        await client.result(run.workflow_id, timeout=TIME)


async def test_a_run_that_is_over_cannot_be_cancelled(client: PerdureClient) -> None:
    run = await client.start_agent("echo", "one")
    await client.result(run.workflow_id, timeout=TIME)
    with pytest.raises(RunNotFoundError, match="is closed"):
        await client.cancel(run.workflow_id)


async def test_two_children_of_one_id_are_an_error_with_a_type(client: PerdureClient) -> None:
    run = await client.start_workflow("Twins", ["echo"])
    with pytest.raises(InvalidInputError, match="already: give another id"):
        await client.result(run.workflow_id, timeout=TIME)


async def _until(client: PerdureClient, query: str, expected: int) -> None:
    request = CountWorkflowExecutionsRequest(namespace=client.temporal.namespace, query=query)
    found = -1
    for _ in range(200):
        found = (await client.temporal.workflow_service.count_workflow_executions(request)).count
        if found == expected:
            return
        await asyncio.sleep(0.1)
    raise AssertionError(f"{found} rather than {expected} runs: {query}")
