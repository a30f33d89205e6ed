"""Waiting for people over days, on the test server, which skips the time in which nobody works."""

import asyncio
import sys
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from temporalio.client import Client, WorkflowFailureError
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Worker

from perdure import ApprovalRule
from perdure.client._identity import decider
from perdure.client._people import send_decision
from perdure.contracts.waits import DecideRequest, Wait, WaitsPage
from perdure.errors import ApprovalTimeout, InvalidInputError
from perdure.plugin import PerdurePlugin
from perdure.settings import Settings
from tests.support.approval_app import make_app, turns

QUEUE = "waits"
DAY = timedelta(days=1)
BINARY = str(Path(sys.executable).with_name("temporal-test-server"))
RULES = [
    ApprovalRule(tool="deploy", deadline=30 * DAY, on_deadline="escalate", escalate_to="boss", group="ops"),
    ApprovalRule(tool="pay", deadline=31 * DAY, on_deadline="fail"),
    ApprovalRule(tool="reach", deadline=29 * DAY),
    ApprovalRule(tool="look", decision="ask", deadline=40 * DAY),
]


@pytest.fixture(scope="module")
async def environment() -> AsyncIterator[WorkflowEnvironment]:
    plugin = PerdurePlugin(make_app(approvals=RULES), Settings(task_queue=QUEUE))
    started = await WorkflowEnvironment.start_time_skipping(test_server_existing_path=BINARY, plugins=[plugin])
    async with started, Worker(started.client, task_queue=QUEUE):
        yield started


async def start(client: Client, workflow_id: str, *made: tuple[str, dict[str, Any]]) -> Any:
    request = {"agent": "doer", "input": [{"kind": "text", "text": turns([*made])}]}
    return await client.start_workflow("AgentWorkflow", request, id=workflow_id, task_queue=QUEUE)


async def waits(client: Client, workflow_id: str) -> tuple[Wait, ...]:
    handle: Any = client.get_workflow_handle(workflow_id)
    page: WaitsPage = await handle.query("perdure.waits", result_type=WaitsPage)
    return page.waits


async def waiting(client: Client, workflow_id: str) -> Wait:
    async with asyncio.timeout(20):
        while not (found := await waits(client, workflow_id)):
            await asyncio.sleep(0.05)
    return found[0]


def approval(client: Client, wait: Wait) -> DecideRequest:
    return DecideRequest(wait=wait.id, verdict="approve", by=decider(client), id="1")


async def text_of(handle: Any) -> str:
    return (await handle.result())["output"]


async def took(handle: Any) -> timedelta:
    """Return how long a closed run took: the server's clock may have gone on since, to whatever came next."""
    events = (await handle.fetch_history()).events
    return events[-1].event_time.ToDatetime() - events[0].event_time.ToDatetime()


async def test_an_approval_that_waits_30_days(environment: WorkflowEnvironment) -> None:
    client = environment.client
    before = await environment.get_current_time()
    handle = await start(client, "patient", ("look", {"number": 1}))
    wait = await waiting(client, "patient")
    await environment.sleep(30 * DAY)
    assert await waits(client, "patient") == (wait,)
    await send_decision(client, "patient", approval(client, wait))
    assert await text_of(handle) == "saw 1"
    assert await environment.get_current_time() - before >= 30 * DAY


async def test_after_the_deadline_the_call_is_denied(environment: WorkflowEnvironment) -> None:
    handle = await start(environment.client, "denied", ("reach", {"target": "x"}))
    assert await text_of(handle) == "Not run: nobody approved it in time."
    assert 29 * DAY - timedelta(minutes=1) < await took(handle) < 30 * DAY


async def test_after_the_deadline_the_run_fails(environment: WorkflowEnvironment) -> None:
    handle = await start(environment.client, "failing", ("pay", {"amount": 5}))
    with pytest.raises(WorkflowFailureError) as caught:
        await handle.result()
    cause: Any = caught.value.__cause__
    assert cause.type == ApprovalTimeout.__name__
    assert cause.message == "Nobody approved the call of pay in time."


async def test_escalation(environment: WorkflowEnvironment) -> None:
    """The second group is asked for as long again, and decides; a call that it says nothing of is denied."""
    client = environment.client
    handle = await start(client, "escalated", ("deploy", {"target": "a"}))
    first = await waiting(client, "escalated")
    assert first.group == "ops"
    await environment.sleep(30 * DAY + timedelta(minutes=1))
    (second,) = await waits(client, "escalated")
    assert (second.id, second.group, second.escalated_from) == (first.id, "boss", "ops")
    assert first.deadline is not None
    assert second.deadline is not None
    assert second.deadline - first.deadline >= 30 * DAY
    await environment.sleep(29 * DAY)
    await send_decision(client, "escalated", approval(client, second))
    assert await text_of(handle) == "deployed a x 1"
    handle = await start(client, "ignored", ("deploy", {"target": "b"}))
    assert await text_of(handle) == "Not run: nobody approved it in time."
    assert await took(handle) > 59 * DAY


async def test_a_decision_that_comes_too_late(environment: WorkflowEnvironment) -> None:
    client = environment.client
    handle = await start(client, "late", ("reach", {"target": "x"}), ("look", {"number": 2}))
    wait = next(each for each in [await waiting(client, "late")] if each.tool == "reach")
    await environment.sleep(29 * DAY + timedelta(hours=1))
    with pytest.raises(InvalidInputError, match="It came too late"):
        await send_decision(client, "late", approval(client, wait))
    assert await text_of(handle) == "Not run: nobody approved it in time. | Not run: nobody approved it in time."


async def test_questions_that_nobody_answers(environment: WorkflowEnvironment) -> None:
    handle = await start(environment.client, "asked", ("ask_human", {"question": "Which?"}))
    assert await text_of(handle) == "Nobody answered in time. Go on without an answer."
    assert 7 * DAY - timedelta(minutes=1) < await took(handle) < 8 * DAY
