"""What a run did and when, read from real histories, without a worker."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from temporalio.client import Client

from perdure import Agent, App, Limits, tool
from perdure.client import PerdureClient, Step, Timeline, totals
from perdure.client._timeline.sums import calls_of
from perdure.contracts.map import MapInput
from perdure.contracts.messages import Message
from perdure.contracts.names import MAP_WORKFLOW
from perdure.errors import ModelCallError
from perdure.testing import ScriptedModel, calls
from tests.support.trace_workflows import Relay
from tests.support.workers import worker

TIME = timedelta(seconds=60)
FAILURES: list[str] = []
"""What the model's first call failed with."""


@tool(idempotent=True)
def look(number: int) -> str:
    """Look at a page."""
    return f"page {number}"


def _lead(request: Any, messages: list[Message]) -> Any:
    turn = sum(message.role == "assistant" for message in messages)
    if turn == 0 and not FAILURES:
        FAILURES.append("overloaded")
        return ModelCallError("overloaded", kind="transient", status_code=503)
    script = [
        calls(("look", {"number": 1}), ("helper", {"input": "help"})),
        calls(("look", {"number": 2})),
        "done",
    ]
    return script[turn]


helper = Agent("helper", model="help:x")
lead = Agent("lead", model="lead:x", tools=[look, helper.as_tool()], limits=Limits(max_turns=2), on_limit="ask")
app = App(
    agents=[lead, helper],
    workflows=[Relay],
    providers=[ScriptedModel(_lead, name="lead"), ScriptedModel(["helped"], name="help")],
)


@pytest.fixture(scope="module")
async def runs(temporal: Client) -> dict[str, str]:
    """Runs that are over; their worker is gone."""
    FAILURES.clear()
    async with worker(app, temporal) as client:
        led = await client.start_agent("lead", "lead")
        relay = await client.start_workflow("Relay", [False])
        mapped = await client.start_workflow(MAP_WORKFLOW, [MapInput(agent="helper", items=tuple("abcdefgh"))])
        await _until_it_waits(client, led.workflow_id)
        await client.set_limits(led.workflow_id, Limits(max_turns=5))
        for each in (led, relay, mapped):
            await client.result(each.workflow_id, timeout=TIME)
    assert FAILURES == ["overloaded"], "the fault was there"
    return {"lead": led.workflow_id, "relay": relay.workflow_id, "map": mapped.workflow_id}


async def _until_it_waits(client: PerdureClient, workflow_id: str) -> None:
    while not [step for step in (await client.trace(workflow_id)).steps if step.kind == "wait"]:
        await asyncio.sleep(0.1)


@pytest.fixture
def client(temporal: Client) -> PerdureClient:
    return PerdureClient(temporal)


def of_kind(timeline: Timeline, kind: str) -> list[Step]:
    return [step for step in calls_of(timeline.steps) if step.kind == kind]


async def test_an_agents_run(client: PerdureClient, runs: dict[str, str]) -> None:
    timeline = await client.trace(runs["lead"])
    assert (timeline.agent, timeline.status, timeline.unread) == ("lead", "completed", 0)
    assert [step.number for step in of_kind(timeline, "turn")] == [1, 2, 3]
    first = of_kind(timeline, "model")[0]
    assert (first.attempts, first.outcome) == (2, "ok")
    assert "overloaded" in first.failure
    assert first.tried_at is not None
    assert first.tried_at > first.started_at
    (wait,) = of_kind(timeline, "wait")
    assert (wait.name, wait.outcome) == ("waiting_limit", "ok")
    assert [(step.name, step.outcome) for step in of_kind(timeline, "update")] == [("perdure.limit", "ok")]
    (child,) = of_kind(timeline, "child")
    assert child in timeline.steps[1].steps, "it belongs to the turn that asked for it"
    assert child.below is not None
    assert [step.number for step in of_kind(child.below, "turn")] == [1]
    sums = totals(timeline)
    assert (sums.own.turns, sums.own.tool_calls, sums.runs, sums.is_partial) == (3, 2, 1, False)
    assert [row.name for row in sums.agents] == ["lead", "helper"]
    assert sums.waited == wait.took(timeline.end)


async def test_the_whole_chain_of_a_workflow_of_ones_own(client: PerdureClient, runs: dict[str, str]) -> None:
    timeline = await client.trace(runs["relay"])
    assert (timeline.workflow, timeline.agent) == ("Relay", "")
    assert [link.outcome for link in timeline.links] == ["continued", "ok"]
    assert [step.kind for step in timeline.steps] == ["timer", "continued", "child"]
    assert timeline.steps[-1].below is not None


async def test_levels_below(client: PerdureClient, runs: dict[str, str]) -> None:
    flat = await client.trace(runs["map"], depth=0)
    nodes = of_kind(flat, "child")
    assert nodes
    assert all(node.below is None for node in nodes)
    assert totals(flat).is_partial
    assert totals(flat).tree.total_tokens > 0, "a node's result tells what its items used"
    deep = await client.trace(runs["map"], depth=2, is_all=True)
    items = [item for node in of_kind(deep, "child") if node.below for item in of_kind(node.below, "child")]
    assert len(items) == 8
    assert all(item.below is not None for item in items)
    assert totals(deep).tree.total_tokens == totals(flat).tree.total_tokens
    assert not totals(deep).is_partial


async def test_show_and_transcript_need_no_worker_either(client: PerdureClient, runs: dict[str, str]) -> None:
    shown = await client.show(runs["lead"])
    assert shown.counters.turns == 3
    assert [entry.slot for entry in await client.transcript(runs["lead"])] == list(range(7))
