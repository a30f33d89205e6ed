"""A run continues as new while it waits for people: nothing of the turn is lost, and no decision counts twice."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import timedelta

import pytest
from temporalio.client import Client

from perdure import Limits
from perdure.client import PerdureClient
from perdure.client._identity import decider
from perdure.client._people import send_decision
from perdure.connection import connect
from perdure.contracts.names import COPY_CONVERSATION
from perdure.contracts.waits import DecideRequest, Wait
from perdure.devserver import DevServer
from perdure.errors import InvalidInputError
from tests.support.approval_app import make_app, turns
from tests.support.workers import worker

TIME = timedelta(seconds=40)


@pytest.fixture(scope="module")
async def strict(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Client]:
    """A server that suggests Continue-As-New early."""
    config = {"limit.historyCount.suggestContinueAsNew": "60"}
    folder = tmp_path_factory.mktemp("strict-waits")
    async with DevServer(folder, port=0, ui_port=0, in_memory=True, dynamic_config=config) as server:
        yield await connect(address=server.address)


async def run_id(client: PerdureClient, workflow_id: str) -> str:
    return (await client.show(workflow_id, depth=0)).info.run_id


async def waiting(client: PerdureClient, workflow_id: str, count: int) -> list[Wait]:
    async with asyncio.timeout(TIME.total_seconds()):
        while len(found := [w for run in await client.waits(workflow_id) for w in run.waits]) != count:
            await asyncio.sleep(0.05)
    return found


async def grow_until_it_continues(client: PerdureClient, workflow_id: str) -> None:
    """Fill the history of a run that waits with updates, until it continues as new."""
    before = await run_id(client, workflow_id)
    async with asyncio.timeout(TIME.total_seconds()):
        number = 100
        while await run_id(client, workflow_id) == before:
            number += 1
            with suppress(InvalidInputError):  # it is starting
                await client.set_limits(workflow_id, Limits(max_turns=number))


@pytest.mark.parametrize("cache_bytes", [1_000_000, 0], ids=["cached", "every lookup misses"])
async def test_in_the_middle_of_a_turn(strict: Client, cache_bytes: int) -> None:
    made = [
        ("look", {"number": 1}),
        ("deploy", {"target": "a"}),
        ("deploy", {"target": "b"}),
        ("pay", {"amount": 500}),
        ("nope", {}),
        ("ask_human", {"question": "Which?"}),
    ]
    async with worker(make_app(), strict, message_cache_bytes=cache_bytes) as client:
        run = await client.start_agent("doer", turns(made, [("look", {"number": 2}), ("pay", {"amount": 600})]))
        first = await waiting(client, run.workflow_id, 4)
        by_call = {(wait.tool, wait.arguments): wait for wait in first}
        denied = next(wait for (tool, text), wait in by_call.items() if tool == "deploy" and '"b"' in text)
        await client.deny(run.workflow_id, denied.id, reason="Not b.")
        before = await waiting(client, run.workflow_id, 3)
        await grow_until_it_continues(client, run.workflow_id)
        async with asyncio.timeout(TIME.total_seconds()):  # texts are back once the turn goes on
            while await waiting(client, run.workflow_id, 3) != before:
                await asyncio.sleep(0.05)
        details = await client.show(run.workflow_id)
        assert (details.info.state, details.counters.tool_calls) == ("waiting_approval", 3)
        by = decider(strict)
        second = DecideRequest(wait=denied.id, verdict="approve", by=by, id="x")
        with pytest.raises(InvalidInputError, match="It was denied before, by "):
            await send_decision(strict, run.workflow_id, second)
        for wait in before:
            if wait.kind == "question":
                await client.answer(run.workflow_id, "that", wait.id)
            else:
                await client.approve(run.workflow_id, wait.id, is_always=wait.tool == "pay")
        result = await client.result(run.workflow_id, timeout=TIME)
        entries = await client.transcript(run.workflow_id)
    assert result.output == "saw 2 | paid 600"
    assert result.counters.tool_calls == 8
    assert [entry.slot for entry in entries] == list(range(len(made) + 6))
    texts = [entry.message.parts[0].content[0].text for entry in entries if entry.message.role == "tool"]  # pyright: ignore
    assert texts[:4] == ["saw 1", "deployed a x 1", "Not run: a person denied it. Not b.", "paid 500"]
    assert texts[5] == "that"


async def test_what_waits_is_decided_while_the_run_is_paused(strict: Client) -> None:
    """Before and after it continues as new; what was decided is done when it is resumed."""
    made = [
        ("deploy", {"target": "edited"}),
        ("deploy", {"target": "denied"}),
        ("deploy", {"target": "approved"}),
        ("pay", {"amount": 500}),
        ("ask_human", {"question": "Which?", "choices": ["red", "blue"]}),
    ]
    async with worker(make_app(), strict) as client:
        run = await client.start_agent("doer", turns(made))
        id = run.workflow_id
        before = await waiting(client, id, len(made))
        await client.pause(id)
        await grow_until_it_continues(client, id)
        async with asyncio.timeout(TIME.total_seconds()):
            while await waiting(client, id, len(made)) != before:
                await asyncio.sleep(0.05)
        edited, denied, approved, pay, question = sorted(before, key=lambda wait: wait.index)
        with pytest.raises(InvalidInputError, match="answer doesn't fit the schema"):
            await client.answer(id, "green", question.id)
        with pytest.raises(InvalidInputError, match="arguments don't fit the schema"):
            await client.approve(id, edited.id, arguments={"target": 7})
        await client.answer(id, "blue", question.id)
        await client.approve(id, edited.id, arguments={"target": "other", "count": 2})
        await client.deny(id, denied.id, reason="Not that.")
        await client.approve(id, approved.id)
        await client.approve(id, pay.id)
        assert (await client.show(id)).info.state == "paused"
        assert await started_in(strict, id) == {COPY_CONVERSATION}
        await client.resume(id)
        result = await client.result(id, timeout=TIME)
    parts = result.output.split(" | ")
    assert "deployed other x 2" in parts[0], "the model is also told that a person changed the arguments"
    assert parts[1:] == ["Not run: a person denied it. Not that.", "deployed approved x 1", "paid 500", "blue"]


async def started_in(temporal: Client, workflow_id: str) -> set[str]:
    """Return which activities the present run of a workflow has started."""
    events = [each async for each in temporal.get_workflow_handle(workflow_id).fetch_history_events()]
    scheduled = [each.activity_task_scheduled_event_attributes.activity_type.name for each in events]
    return set(filter(None, scheduled))


async def test_decisions_that_come_while_it_continues(strict: Client) -> None:
    """Decisions and updates rain on a run that continues as new all the time; each decision counts once."""
    made = [("deploy", {"target": f"t{number}"}) for number in range(24)]
    async with worker(make_app(), strict) as client:
        run = await client.start_agent("doer", turns(made))
        waits = await waiting(client, run.workflow_id, len(made))
        first = await run_id(client, run.workflow_id)

        async def grow() -> None:
            for number in range(60):
                with suppress(InvalidInputError):  # it is starting
                    await client.set_limits(run.workflow_id, Limits(max_turns=100 + number))

        async def decide(wait: Wait) -> None:
            request = DecideRequest(wait=wait.id, verdict="approve", by=decider(strict), id=wait.id)
            await send_decision(strict, run.workflow_id, request)

        growing = asyncio.create_task(grow())
        for wait in waits[:-1]:
            await decide(wait)
            await asyncio.sleep(0.02)
        await growing
        await decide(waits[-1])
        result = await client.result(run.workflow_id, timeout=TIME)
        assert await run_id(client, run.workflow_id) != first, "it never continued as new"
    assert result.output == " | ".join(f"deployed t{number} x 1" for number in range(24))
