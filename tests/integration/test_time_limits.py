"""`wall_clock` bounds calls and waits, of a run and of all below it; on the test server, which skips time."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from temporalio.client import Client, WorkflowFailureError
from temporalio.service import RPCError
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Worker

from perdure import Agent, App, Limits, ask_human_tool
from perdure.client import PerdureClient
from perdure.client._identity import decider
from perdure.client._people import send_decision
from perdure.contracts.steering import Session
from perdure.contracts.waits import DecideRequest, Wait, WaitsPage
from perdure.errors import ModelCallError
from perdure.plugin import PerdurePlugin
from perdure.settings import Settings
from perdure.testing import ScriptedModel
from tests.support.approval_app import TOOLS, script, turns

QUEUE = "time-limits"
BINARY = str(Path(sys.executable).with_name("temporal-test-server"))
HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)
ONE_HOUR = Limits(wall_clock=HOUR)
DEPLOY = ("deploy", {"target": "x"})


def busy(request: Any, messages: Any) -> ModelCallError:
    return ModelCallError("busy", kind="rate_limited", retry_after_seconds=300)


def make_app() -> App:
    asking = ask_human_tool(timeout=timedelta(days=7))
    member = Agent("member", description="Helps.", model="scripted:x", tools=TOOLS)
    boss = Agent("boss", model="scripted:x", tools=[member.as_tool(), asking])
    failing = [
        Agent(name, model=model, tools=[*TOOLS, asking], on_limit="fail")
        for name, model in (("failer", "scripted:x"), ("unlucky", "busy:x"))
    ]
    asker = Agent("asker", model="scripted:x", tools=TOOLS, on_limit="ask")
    brief = Limits(wall_clock=30 * MINUTE)
    front = Agent("front", model="scripted:x", handoffs=[member], limits=brief)
    return App(
        agents=[member, boss, asker, front, *failing],
        providers=[ScriptedModel(script), ScriptedModel(busy, name="busy")],
    )


@pytest.fixture(scope="module")
async def environment() -> AsyncIterator[WorkflowEnvironment]:
    plugin = PerdurePlugin(make_app(), Settings(task_queue=QUEUE))
    started = await WorkflowEnvironment.start_time_skipping(test_server_existing_path=BINARY, plugins=[plugin])
    async with started, Worker(started.client, task_queue=QUEUE):
        yield started


async def start(client: Client, agent: str, text: str, limits: Limits = ONE_HOUR, **more: Any) -> Any:
    request = {"agent": agent, "input": [{"kind": "text", "text": text}], "limits": json.loads(limits.to_bytes())}
    workflow_id = f"{agent}-{uuid4().hex[:8]}"
    return await client.start_workflow("AgentWorkflow", {**request, **more}, id=workflow_id, task_queue=QUEUE)


async def waiting(client: Client, workflow_id: str) -> Wait:
    handle: Any = client.get_workflow_handle(workflow_id)
    async with asyncio.timeout(20):
        while True:
            with suppress(RPCError):  # it isn't there yet
                page: WaitsPage = await handle.query("perdure.waits", result_type=WaitsPage)
                if page.waits:
                    return page.waits[0]
            await asyncio.sleep(0.05)


async def state(handle: Any, wanted: str) -> None:
    async with asyncio.timeout(20):
        while (await handle.query("perdure.status"))["state"] != wanted:
            await asyncio.sleep(0.05)


async def failure(handle: Any) -> Any:
    with pytest.raises(WorkflowFailureError) as caught:
        await handle.result()
    return caught.value.__cause__


async def took(handle: Any) -> timedelta:
    events = (await handle.fetch_history()).events
    return events[-1].event_time.ToDatetime() - events[0].event_time.ToDatetime()


def approval(client: Client, wait: Wait) -> DecideRequest:
    return DecideRequest(wait=wait.id, verdict="approve", by=decider(client), id="1")


async def test_a_wait_for_approval_ends_with_the_time(environment: WorkflowEnvironment) -> None:
    """The call is not made, and the run answers with what it has."""
    handle = await start(environment.client, "member", turns([DEPLOY]))
    result = await handle.result()
    assert result["output"] == "Not run: nobody approved it before the limit wall_clock=1:00:00 was reached."
    assert result["limit"] == "wall_clock=1:00:00"
    assert HOUR <= await took(handle) < HOUR + MINUTE


async def test_a_question_ends_with_the_time(environment: WorkflowEnvironment) -> None:
    handle = await start(environment.client, "failer", turns([("ask_human", {"question": "Which?"})]))
    cause = await failure(handle)
    assert cause.type == "LimitExceeded"
    assert cause.details[0]["limit"] == "wall_clock=1:00:00"
    assert HOUR <= await took(handle) < HOUR + MINUTE


async def test_a_vendor_that_is_busy_is_not_waited_for_longer(environment: WorkflowEnvironment) -> None:
    """It says 300 s each time, and a call may wait for an hour; the run has 20 minutes."""
    limits = Limits(wall_clock=20 * MINUTE)
    handle = await start(environment.client, "unlucky", "go", limits)
    cause = await failure(handle)
    assert (cause.type, cause.details[0]["limit"]) == ("LimitExceeded", "wall_clock=0:20:00")
    assert 10 * MINUTE < await took(handle) <= 20 * MINUTE + MINUTE


async def test_who_asks_goes_on_when_the_time_is_raised(environment: WorkflowEnvironment) -> None:
    client = environment.client
    handle = await start(client, "asker", turns([DEPLOY], [("look", {"number": 1})]))
    await environment.sleep(HOUR + MINUTE)
    await state(handle, "waiting_limit")
    perdure = PerdureClient(client, task_queue=QUEUE)
    limits = await perdure.set_limits(handle.id, Limits(wall_clock=2 * HOUR))
    assert limits.wall_clock == 2 * HOUR
    assert (await handle.result())["output"] == "saw 1"


async def test_a_session_ends_with_the_time(environment: WorkflowEnvironment) -> None:
    session = json.loads(Session(idle_timeout=timedelta(days=3)).to_bytes())
    handle = await start(environment.client, "member", turns([("look", {"number": 1})]), session=session)
    result = await handle.result()
    assert (result["output"], result.get("limit")) == ("saw 1", None)
    assert HOUR <= await took(handle) < HOUR + MINUTE


async def test_a_tree_has_the_time_of_its_root(environment: WorkflowEnvironment) -> None:
    """The subagent's wait ends with it; both answer with what they have."""
    orders = turns([("member", {"input": turns([DEPLOY])})])
    handle = await start(environment.client, "boss", orders)
    result = await handle.result()
    told = "Not run: nobody approved it before the limit wall_clock of"
    assert result["output"] == f"{told} {handle.id} was reached."
    assert result["limit"] == "wall_clock=1:00:00"
    assert HOUR <= await took(handle) < HOUR + MINUTE


async def test_a_longer_time_is_told_below(environment: WorkflowEnvironment) -> None:
    """A subagent waits on, past the time that it began with, and its call is approved."""
    client = environment.client
    handle = await start(client, "boss", turns([("member", {"input": turns([("deploy", {"target": "y"})])})]))
    below = f"{handle.id}/member-1"
    wait = await waiting(client, below)
    await PerdureClient(client, task_queue=QUEUE).set_limits(handle.id, Limits(wall_clock=3 * HOUR))
    await environment.sleep(2 * HOUR)
    assert (await waiting(client, below)).id == wait.id
    await send_decision(client, below, approval(client, wait))
    assert (await handle.result())["output"] == "deployed y x 1"


async def test_a_shorter_time_is_told_below(environment: WorkflowEnvironment) -> None:
    client = environment.client
    handle = await start(client, "boss", turns([("member", {"input": turns([("deploy", {"target": "z"})])})]))
    await waiting(client, f"{handle.id}/member-1")
    await PerdureClient(client, task_queue=QUEUE).set_limits(handle.id, Limits(wall_clock=20 * MINUTE))
    assert (await handle.result())["limit"] == "wall_clock=0:20:00"
    assert 20 * MINUTE <= await took(handle) < 21 * MINUTE


async def test_a_handoff_gives_no_more_time(environment: WorkflowEnvironment) -> None:
    """The agent that has the conversation next has no limit of its own."""
    orders = turns([("handoff_to_member", {"reason": "x"})], [DEPLOY])
    handle = await start(environment.client, "front", orders, Limits())
    result = await handle.result()
    assert (result["agent"], result["limit"]) == ("member", "wall_clock=0:30:00")
    assert 30 * MINUTE <= await took(handle) < 31 * MINUTE
