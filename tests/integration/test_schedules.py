"""Schedules: runs that Temporal starts by the clock are as those that a person starts.

The time-skipping server has no schedules, so a year of one is what the real server makes of it: it is told to
make up for a year, and starts each run that was due.
"""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4
from zoneinfo import ZoneInfo

import pytest
from temporalio.client import Client, ScheduleBackfill, ScheduleOverlapPolicy

from perdure import Agent, App, Limits
from perdure.client import PerdureClient
from perdure.contracts.messages import Message
from perdure.errors import InvalidInputError, UnknownAgentError
from perdure.testing import ScriptedModel
from tests.support.tidy_app import Tidy
from tests.support.workers import worker

TIME = timedelta(seconds=60)
gate = asyncio.Event()


def _script(request: Any, messages: list[Message]) -> str:
    return f"{request.instructions} {messages[0].text}"


class Gated(ScriptedModel):
    async def call(self, request: Any, on_text: Any) -> Any:
        await gate.wait()
        return await super().call(request, on_text)


def _app(instructions: str) -> App:
    agent = Agent("herald", instructions=instructions, model="gated:x", limits=Limits(max_turns=3))
    return App(agents=[agent], workflows=[Tidy], providers=[Gated(_script, name="gated")])


@pytest.fixture(scope="module")
async def client(temporal: Client) -> AsyncIterator[PerdureClient]:
    async with worker(_app("Call"), temporal) as running:
        yield running


@pytest.fixture
async def name(client: PerdureClient) -> AsyncIterator[str]:
    gate.set()
    made = f"s-{uuid4().hex[:8]}"
    yield made
    gate.set()
    await client.schedules.delete(made)


async def test_a_run_is_as_one_that_a_person_starts(client: PerdureClient, name: str) -> None:
    await client.schedules.create(
        name, agent="herald", input="the hours", every=timedelta(days=9), tenant="t", limits=Limits(max_turns=2)
    )
    scheduled = (await client.schedules.trigger(name)).workflow_id
    assert scheduled.startswith(f"{name}-20")
    assert (await client.result(scheduled, timeout=TIME)).output == "Call the hours"
    plain = (await client.start_agent("herald", "the hours", tenant="t", limits=Limits(max_turns=2))).workflow_id
    await client.result(plain, timeout=TIME)
    seen = [await _seen(client, workflow_id) for workflow_id in (scheduled, plain)]
    assert seen[0] == seen[1]
    assert seen[0]["attributes"].items() >= {"PerdureAgent": "herald", "PerdureTenant": "t"}.items()
    shown = await client.schedules.show(name)
    assert [run.workflow_id for run in shown.recent] == [scheduled]
    assert (shown.agent, shown.when, shown.tenant, shown.input) == ("herald", ("every 9d",), "t", "the hours")
    assert len(shown.next) == 10


async def _seen(client: PerdureClient, workflow_id: str) -> dict[str, Any]:
    """Return what others see of a run, and what the server was told of it."""
    handle = client.temporal.get_workflow_handle(workflow_id)
    described = await handle.describe()
    started = (await handle.fetch_history()).events[0].workflow_execution_started_event_attributes
    attributes = {pair.key.name: pair.value for pair in described.typed_search_attributes}
    return {
        "summary": await described.static_summary(),
        "attributes": {key: value for key, value in attributes.items() if key.startswith("Perdure")},
        "task timeout": started.workflow_task_timeout.ToTimedelta(),
        "input": started.input.payloads[0].data,
        "fairness": started.priority.fairness_key,
        "queue": started.task_queue.name,
    }


async def test_each_run_has_the_agent_of_its_day(client: PerdureClient, temporal: Client, name: str) -> None:
    queue = f"q-{uuid4().hex[:8]}"
    async with worker(_app("Call"), temporal, queue=queue) as own:
        await own.schedules.create(name, agent="herald", input="it", cron="0 4 1 1 *")
        before = (await own.schedules.trigger(name)).workflow_id
        assert (await own.result(before, timeout=TIME)).output == "Call it"
    async with worker(_app("Shout"), temporal, queue=queue) as own:
        after = (await own.schedules.trigger(name)).workflow_id
        assert (await own.result(after, timeout=TIME)).output == "Shout it"


async def test_a_year(client: PerdureClient, name: str) -> None:
    """At nine in Berlin on the first of each month, in summer and in winter: 12 runs, and each is done."""
    berlin = ZoneInfo("Europe/Berlin")
    await client.schedules.create(
        name, agent="herald", input="x", cron="0 9 1 * *", time_zone="Europe/Berlin", paused=True
    )
    start, end = datetime(2025, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC)
    backfill = ScheduleBackfill(start_at=start, end_at=end, overlap=ScheduleOverlapPolicy.ALLOW_ALL)
    await client.temporal.get_schedule_handle(name).backfill(backfill)
    due = [datetime(2025, month, 1, 9, tzinfo=berlin).astimezone(UTC) for month in range(1, 13)]
    assert {at.hour for at in due} == {7, 8}, "the year has a summer"
    for at in due:
        result = await client.result(await _started(client, f"{name}-{at:%Y-%m-%dT%H:%M:%SZ}"), timeout=TIME)
        assert result.output == "Call x"
    assert (await client.schedules.show(name)).started == 12


async def _started(client: PerdureClient, workflow_id: str) -> str:
    """Wait until a run is there; runs of a backfill are started one after the other."""
    async with asyncio.timeout(60):
        while True:
            found = [run async for run in client.list(query=f"WorkflowId = '{workflow_id}'")]
            if found:
                return workflow_id
            await asyncio.sleep(0.2)


async def test_what_is_due_next(client: PerdureClient, name: str) -> None:
    made = await client.schedules.create(
        name, agent="herald", input="x", cron=["30 6 29 2 *"], time_zone="America/New_York"
    )
    assert made.when == ("30 6 29 2 *",)
    assert all((at.month, at.day) == (2, 29) for at in made.next)
    assert {at.astimezone(ZoneInfo("America/New_York")).hour for at in made.next} == {6}
    listed = [each async for each in _listed(client, name)]
    assert (listed[0].agent, listed[0].time_zone) == ("herald", "America/New_York")
    assert listed[0].next[0] == made.next[0]


async def _listed(client: PerdureClient, name: str) -> AsyncIterator[Any]:
    """Wait for a schedule in the server's list, which is behind."""
    async with asyncio.timeout(20):
        while True:
            async for each in client.schedules.list():
                if each.name == name and each.next:
                    yield each
                    return
            await asyncio.sleep(0.2)


async def test_overlap_pause_and_resume(client: PerdureClient, name: str) -> None:
    gate.clear()
    await client.schedules.create(name, agent="herald", input="x", every=timedelta(days=1))
    first = await client.schedules.trigger(name)
    second = await client.schedules.trigger(name)
    assert (second.workflow_id, second.note) == ("", f"{first.workflow_id} is open: skip")
    third = await client.schedules.trigger(name, overlap="allow_all")
    assert third.workflow_id not in ("", first.workflow_id)
    await client.schedules.pause(name, note="holidays")
    shown = await client.schedules.show(name)
    assert (shown.is_paused, shown.note, shown.skipped) == (True, "holidays", 1)
    assert set(shown.running) >= {first.workflow_id}
    gate.set()
    await client.schedules.resume(name)
    assert not (await client.schedules.show(name)).is_paused
    await client.result(third.workflow_id, timeout=TIME)


async def test_a_workflow_of_ones_own(client: PerdureClient, name: str) -> None:
    await client.schedules.create(name, workflow="Tidy", every=timedelta(days=1), tenant="t")
    triggered = await client.schedules.trigger(name)
    shown = await client.show(triggered.workflow_id)
    assert shown.info.workflow == "Tidy"


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"cron": "61 * * * *"}, "can't use the schedule"),
        ({"cron": "every monday"}, "can't use the schedule"),
        ({"cron": "0 9 * * *", "time_zone": "Mars/Base"}, "can't use the schedule"),
        ({}, "needs to say when"),
        ({"every": timedelta(0)}, "shortest period"),
        ({"every": timedelta(hours=1), "workflow": "Tidy"}, "either an agent or a workflow"),
        (
            {"every": timedelta(hours=1), "agent": "", "workflow": "Tidy", "limits": Limits(max_turns=1)},
            "for agents",
        ),
        ({"every": timedelta(hours=1), "priority": 9}, "A priority is 1"),
    ],
)
async def test_schedules_that_cannot_be(client: PerdureClient, given: dict[str, Any], problem: str) -> None:
    arguments: dict[str, Any] = {"agent": "herald", "input": "x", **given}
    with pytest.raises(InvalidInputError, match=problem) as raised:
        await client.schedules.create("bad", **arguments)
    assert "\n" not in raised.value.message


async def test_names(client: PerdureClient, name: str) -> None:
    with pytest.raises(UnknownAgentError, match="Did you mean 'herald'"):
        await client.schedules.create(name, agent="heralt", cron="@daily")
    await client.schedules.create(name, agent="herald", input="x", cron="@daily")
    with pytest.raises(InvalidInputError, match=r"There is a schedule .* already"):
        await client.schedules.create(name, agent="herald", input="x", cron="@daily")
    for act in (client.schedules.show, client.schedules.pause, client.schedules.delete, client.schedules.trigger):
        with pytest.raises(InvalidInputError, match="There is no schedule 'nobody'"):
            await act("nobody")
