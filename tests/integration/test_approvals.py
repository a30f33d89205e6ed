"""Tool calls that people decide: what each decision does, and what is refused without a trace in history."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from temporalio.client import Client

from perdure import ApprovalRule
from perdure.client import PerdureClient, RunWaits
from perdure.client._identity import decider
from perdure.client._people import send_decision
from perdure.contracts.waits import DecideRequest, Wait
from perdure.errors import InvalidInputError, PerdureError, RunNotFoundError
from tests.support.approval_app import make_app, turns
from tests.support.workers import worker

TIME = timedelta(seconds=30)


@pytest.fixture(scope="module")
async def client(temporal: Client) -> AsyncIterator[PerdureClient]:
    async with worker(make_app(approvals=[ApprovalRule(tool="shell_*", decision="deny")]), temporal) as running:
        yield running


async def waiting(client: PerdureClient, workflow_id: str, count: int = 1) -> list[Wait]:
    """Return what a run, and those below it, wait for, once it is so much."""
    async with asyncio.timeout(TIME.total_seconds()):
        while len(found := [w for run in await client.waits(workflow_id) for w in run.waits]) != count:
            await asyncio.sleep(0.05)
    return found


async def output(client: PerdureClient, workflow_id: str) -> str:
    return str((await client.result(workflow_id, timeout=TIME)).output)


async def events(client: PerdureClient, workflow_id: str) -> int:
    return (await client.show(workflow_id, depth=0)).info.history_events


async def test_approve_shows_what_is_decided(client: PerdureClient) -> None:
    run = await client.start_agent("doer", turns([("deploy", {"target": "web"}), ("look", {"number": 1})]))
    (wait,) = await waiting(client, run.workflow_id)
    assert (wait.kind, wait.tool, wait.agent) == ("approval", "deploy", "doer")
    assert json.loads(wait.arguments) == {"target": "web"}
    assert wait.reason == "I want to, in turn 0."
    async with asyncio.timeout(TIME.total_seconds()):  # the other call of the turn goes on meanwhile
        while not any(e.message.role == "tool" for e in await client.transcript(run.workflow_id)):
            await asyncio.sleep(0.05)
    details = await client.show(run.workflow_id)
    assert details.info.state == "waiting_approval"
    assert details.pending == ()
    assert [each.waits for each in details.waits] == [(wait,)]
    decision = await client.approve(run.workflow_id, wait.id)
    assert decision.outcome == "approved"
    assert decision.by == decider(client.temporal)
    assert await output(client, run.workflow_id) == "deployed web x 1 | saw 1"


async def test_edited_arguments_run_and_the_model_is_told(client: PerdureClient) -> None:
    run = await client.start_agent("doer", turns([("deploy", {"target": "web"})]))
    (wait,) = await waiting(client, run.workflow_id)
    with pytest.raises(InvalidInputError, match='count: "many" should be of type integer'):
        await client.approve(run.workflow_id, arguments={"target": "web", "count": "many"})
    with pytest.raises(InvalidInputError, match="'target' is missing"):
        await client.approve(run.workflow_id, wait.id[:4], arguments={})
    await client.approve(run.workflow_id, arguments={"target": "test", "count": 3})
    text = await output(client, run.workflow_id)
    assert text.startswith("[A person approved this call with other arguments, and it ran with these: ")
    assert text.endswith("]\ndeployed test x 3")


async def test_deny_tells_the_model_why(client: PerdureClient) -> None:
    run = await client.start_agent("doer", turns([("deploy", {"target": "web"})]))
    await waiting(client, run.workflow_id)
    await client.deny(run.workflow_id, reason="Not on a Friday.")
    assert await output(client, run.workflow_id) == "Not run: a person denied it. Not on a Friday."


async def test_what_is_refused_is_not_in_history(client: PerdureClient) -> None:
    script = turns([("deploy", {"target": "a"}), ("deploy", {"target": "b"})])
    run = await client.start_agent("doer", script)
    first, second = await waiting(client, run.workflow_id, 2)
    with pytest.raises(InvalidInputError, match="waits for several"):
        await client.approve(run.workflow_id)
    await client.deny(run.workflow_id, first.id, reason="no")
    before = await settled_events(client, run.workflow_id)
    by = decider(client.temporal)
    refused = [
        (DecideRequest(wait=first.id, verdict="approve", by=by, id="2"), "It was denied before, by "),
        (
            DecideRequest(wait="ffff", verdict="approve", by=by, id="3"),
            "Nothing with the id 'ffff' waits here. What",
        ),
        (
            DecideRequest(wait=second.id, verdict="answer", by=by, id="4", answer=1),
            "is an approval: approve or deny",
        ),
        (DecideRequest(wait=second.id, verdict="approve", by=by, id="5", arguments="{"), "are not JSON"),
        (
            DecideRequest(wait=second.id, verdict="approve", by=by, id="6", arguments="[]"),
            "should be of type object",
        ),
        (DecideRequest(wait=second.id, verdict="deny", by=by, id="7", is_always=True), "are for approving"),
        (DecideRequest(wait=second.id, verdict="deny", by=by, id="8", reason="x" * 1001), "shorten it"),
    ]
    for request, reason in refused:
        with pytest.raises(InvalidInputError, match=reason):
            await send_decision(client.temporal, run.workflow_id, request)
    assert await settled_events(client, run.workflow_id) == before
    request = DecideRequest(wait=second.id, verdict="approve", by=by, id="9")
    decided = await send_decision(client.temporal, run.workflow_id, request)
    assert await output(client, run.workflow_id) == "Not run: a person denied it. no | deployed b x 1"
    assert await send_decision(client.temporal, run.workflow_id, request) == decided  # delivered again
    with pytest.raises(RunNotFoundError, match="is closed"):
        await send_decision(client.temporal, run.workflow_id, request.model_copy(update={"id": "10"}))


async def settled_events(client: PerdureClient, workflow_id: str) -> int:
    """Return the length of a history once it no longer grows."""
    seen = -1
    while (now := await events(client, workflow_id)) != seen:
        seen = now
        await asyncio.sleep(0.3)
    return seen


async def test_always_approves_what_waits_and_what_comes(client: PerdureClient) -> None:
    first = [("deploy", {"target": "a"}), ("deploy", {"target": "b"}), ("pay", {"amount": 500})]
    run = await client.start_agent("doer", turns(first, [("deploy", {"target": "c"})]))
    waits = await waiting(client, run.workflow_id, 3)
    assert [wait.note for wait in waits if wait.tool == "pay"] == ["500 is much"]
    await client.approve(run.workflow_id, waits[0].id, is_always=True)
    (left,) = await waiting(client, run.workflow_id)
    assert left.tool == "pay"
    await client.deny(run.workflow_id)
    assert await output(client, run.workflow_id) == "deployed c x 1"
    decided = await client.decisions(run.workflow_id)
    assert [(each.verdict, each.is_always, each.by.source) for each in decided] == [
        ("approve", True, "os_user"),
        ("deny", False, "os_user"),
    ]


async def test_policies_and_rules(client: PerdureClient) -> None:
    """A policy function in each of its ways, and a rule over what tools say."""
    made = [("pay", {"amount": 5}), ("reach", {"target": "free"}), ("reach", {"target": "nobody"})]
    asked = [("reach", {"target": "ops"}), ("reach", {"target": "broken"}), ("shell_run", {"line": "ls"})]
    run = await client.start_agent("doer", turns([*made, *asked]))
    ops, broken = await waiting(client, run.workflow_id, 2)
    assert (ops.group, broken.note) == ("ops", 'its policy failed: KeyError: "of the user\'s"')
    assert ops.deadline is not None
    assert ops.deadline - ops.asked_at == timedelta(days=1)
    for wait in (ops, broken):
        await client.approve(run.workflow_id, wait.id)
    assert await output(client, run.workflow_id) == (
        "paid 5 | reached free | Not run: its policy forbids this call. | reached ops | reached broken | "
        "Not run: a rule forbids calls of shell_run."
    )


async def test_rules_of_a_run_hold_in_its_tree(client: PerdureClient) -> None:
    script = turns([("helper", {"input": turns([("look", {"number": 7})])}), ("peek", {"number": 1})])
    rules = [ApprovalRule(tool="*", decision="ask", group="boss")]
    run = await client.start_agent("doer", script, approvals=rules)
    waits = await waiting(client, run.workflow_id, 2)
    assert {wait.tool: wait.group for wait in waits} == {"helper": "boss", "peek": "boss"}
    for wait in waits:
        await client.approve(run.workflow_id, wait.id)
    (below,) = await waiting(client, run.workflow_id)
    assert (below.tool, below.agent) == ("look", "helper")
    boss = (await client.inbox(group="boss")).runs
    found = [each for each in boss if each.workflow_id.startswith(run.workflow_id)]
    assert [(each.waits, each.is_answered) for each in found] == [((below,), True)]
    await client.approve(run.workflow_id, below.id)  # by the id of the run above it
    assert await output(client, run.workflow_id) == "saw 7 | peeked 1"


async def test_steps_and_inline_agents_of_a_workflow_of_ones_own(client: PerdureClient) -> None:
    script = turns([("deploy", {"target": "inline"})])
    run = await client.start_workflow("Stepping", [script])
    waits = await waiting(client, run.workflow_id, 3)
    by_target = {json.loads(wait.arguments)["target"]: wait for wait in waits}
    assert by_target["inline"].agent == "helper"
    (found,) = await in_inbox(client, run.workflow_id)
    assert (found.state, found.workflow, len(found.waits)) == ("waiting_approval", "Stepping", 3)
    await client.deny(run.workflow_id, by_target["b"].id, reason="Not b.")
    await client.approve(run.workflow_id, by_target["a"].id, arguments={"target": "a2"})
    await client.approve(run.workflow_id, by_target["inline"].id)
    assert await client.result(run.workflow_id, timeout=TIME) == [
        "deployed a2 x 1",
        "ApprovalDenied: deploy: Not run: a person denied it. Not b.",
        "paid 5",
        "deployed inline x 1",
    ]
    assert await eventually(lambda: in_inbox(client, run.workflow_id), [])


async def test_a_step_that_is_approved_during_a_pause_waits_for_its_end(client: PerdureClient) -> None:
    run = await client.start_workflow("Stepping", [turns([("deploy", {"target": "inline"})])])
    waits = await waiting(client, run.workflow_id, 3)
    await eventually(lambda: tools_run(client, run.workflow_id), ["perdure.run_tool"])  # the one that needs nobody
    await client.pause(run.workflow_id)
    for wait in waits:
        await client.approve(run.workflow_id, wait.id)
    assert await tools_run(client, run.workflow_id) == ["perdure.run_tool"]
    await client.resume(run.workflow_id)
    expected = ["deployed a x 1", "deployed b x 1", "paid 5", "deployed inline x 1"]
    assert await client.result(run.workflow_id, timeout=TIME) == expected


async def tools_run(client: PerdureClient, workflow_id: str) -> list[str]:
    """Return the activities of tools that a workflow has started."""
    handle = client.temporal.get_workflow_handle(workflow_id)
    events = [each async for each in handle.fetch_history_events()]
    names = [each.activity_task_scheduled_event_attributes.activity_type.name for each in events]
    return [each for each in names if each in ("perdure.run_tool", "perdure.call_tool")]


async def in_inbox(client: PerdureClient, workflow_id: str) -> list[RunWaits]:
    async with asyncio.timeout(TIME.total_seconds()):
        for _ in range(20):
            found = [each for each in (await client.inbox()).runs if each.workflow_id == workflow_id]
            if found:
                return found
            await asyncio.sleep(0.1)
    return []


async def eventually(ask: Callable[[], Awaitable[Any]], wanted: Any) -> bool:
    async with asyncio.timeout(TIME.total_seconds()):
        while await ask() != wanted:
            await asyncio.sleep(0.1)
    return True


async def test_questions_of_a_workflow(client: PerdureClient) -> None:
    run = await client.start_workflow("Asking", [0.5])
    (name,) = await waiting(client, run.workflow_id)
    assert (name.kind, name.question) == ("question", "What is your name?")
    with pytest.raises(InvalidInputError, match="5 should be of type string"):
        await client.answer(run.workflow_id, 5)
    await client.answer(run.workflow_id, "Ada")
    await eventually(lambda: asked(client, run.workflow_id), ["How large?"])
    with pytest.raises(InvalidInputError, match="height: Field required"):
        await client.answer(run.workflow_id, {"width": 2})
    await client.answer(run.workflow_id, {"width": 2, "height": 3})
    assert await client.result(run.workflow_id, timeout=TIME) == [
        "Ada",
        6,
        "AnswerTimeout: Nobody answered in time: Now?",
    ]


async def asked(client: PerdureClient, workflow_id: str) -> list[str]:
    return [wait.question for run in await client.waits(workflow_id) for wait in run.waits]


async def test_questions_of_an_agent(client: PerdureClient) -> None:
    ask = ("ask_human", {"question": "Which?", "choices": ["red", "blue"]})
    run = await client.start_agent(
        "doer", turns([ask, ("ask_human", {"choices": ["x"]}), ("look", {"number": 1})])
    )
    (wait,) = await waiting(client, run.workflow_id)
    assert (wait.group, (await client.show(run.workflow_id)).info.state) == ("desk", "waiting_answer")
    with pytest.raises(InvalidInputError, match='"green" should be one of "red", "blue"'):
        await client.answer(run.workflow_id, "green")
    with pytest.raises(InvalidInputError, match="waits for no approval"):
        await client.approve(run.workflow_id)
    await client.answer(run.workflow_id, "blue")
    wrong = "Invalid arguments: call ask_human with a text, as 'question'."
    assert await output(client, run.workflow_id) == f"blue | {wrong} | saw 1"
    run = await client.start_agent("painter", turns([("ask_colour", {"question": "Which?"})]))
    await waiting(client, run.workflow_id)
    with pytest.raises(InvalidInputError, match="'shade' is missing"):
        await client.answer(run.workflow_id, {"name": "red"})
    await client.answer(run.workflow_id, {"name": "red", "shade": 3})
    assert json.loads(await output(client, run.workflow_id)) == {"name": "red", "shade": 3}


async def test_a_run_that_is_cancelled_waits_no_more(client: PerdureClient) -> None:
    run = await client.start_agent("doer", turns([("deploy", {"target": "web"})]))
    await waiting(client, run.workflow_id)
    await client.cancel(run.workflow_id)
    with pytest.raises(PerdureError, match="was cancelled"):
        await client.result(run.workflow_id, timeout=TIME)
    assert await client.waits(run.workflow_id) == []


async def test_without_a_worker_history_tells(temporal: Client) -> None:
    queue = f"q-{uuid4().hex[:8]}"
    async with worker(make_app(), temporal, queue=queue) as client:
        run = await client.start_agent(
            "doer", turns([("deploy", {"target": "x" * 5000}), ("look", {"number": 1})])
        )
        (wait,) = await waiting(client, run.workflow_id)
        assert len(wait.arguments) > 5000, "approvals of one run show whole arguments"
    alone = PerdureClient(temporal, task_queue=f"nobody-{queue}")
    (found,) = [each for each in (await client.inbox()).runs if each.workflow_id == run.workflow_id]
    if found.is_answered:
        pytest.fail("a worker answered")
    assert [(each.tool, each.id, len(each.arguments)) for each in found.waits] == [("deploy", "", 4000)]
    with pytest.raises(InvalidInputError, match="no worker answers"):
        await alone.approve(run.workflow_id)
    await client.terminate(run.workflow_id, reason="over")
