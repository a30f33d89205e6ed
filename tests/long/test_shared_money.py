"""One limit for a map, a plan or a workflow of the user's own, and all below it."""

import asyncio
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
from temporalio.client import Client

from perdure import Agent, App, Limits, ModelSettings
from perdure.client import PerdureClient
from perdure.contracts.map import MapResult
from perdure.contracts.names import PLAN_WORKFLOW
from perdure.contracts.plan import Plan, PlanResult, PlanRunInput, Task
from perdure.errors import InvalidInputError, LimitExceeded, ModelCallError, RunNotFoundError
from perdure.providers.base import ModelReply, ModelRequest, TextSink
from tests.support.biller import Biller, think
from tests.support.money_workflows import Generations, Halting, Spending
from tests.support.workers import worker

TIME = timedelta(seconds=60)


def make_app(biller: Biller, **options: Any) -> App:
    settings = ModelSettings(max_output_tokens=1000)
    agent = Agent("worker", model="biller:x", tools=[think], settings=settings, **options)
    return App(agents=[agent], providers=[biller], workflows=[Spending, Generations, Halting])


async def test_a_map_shares_one_limit(temporal: Client) -> None:
    biller, limit = Biller(turns=2), 12_000
    async with worker(make_app(biller, on_limit="fail"), temporal) as client:
        limits = Limits(max_total_tokens=limit, max_turns=20)
        items = [f"item {number}" for number in range(16)]
        run = await client.start_map("worker", items, max_parallel=8, on_error="collect", limits=limits)
        result = await client.result(run.workflow_id, timeout=TIME)
    assert isinstance(result, MapResult)
    assert limit * 0.6 < biller.billed_tokens <= limit
    failures = {each.failure.type for each in result.outcomes if each.failure is not None}
    assert failures == {"LimitExceeded"}


async def test_a_plan_shares_one_limit(temporal: Client) -> None:
    biller, limit = Biller(turns=2), 14_000
    tasks = tuple(Task(id=f"t{n}", agent="worker", input=f"part {n}", on_error="continue") for n in range(8))
    async with worker(make_app(biller, on_limit="fail"), temporal) as client:
        request = PlanRunInput(plan=Plan(tasks=tasks))
        run = await client.start_workflow(PLAN_WORKFLOW, [request], limits=Limits(max_total_tokens=limit))
        result = await client.result(run.workflow_id, timeout=TIME)
    assert isinstance(result, PlanResult)
    assert {failure.type for failure in result.failures} == {"LimitExceeded"}
    assert limit * 0.6 < biller.billed_tokens <= limit


@pytest.mark.parametrize(("limit", "answers"), [(400_000, 8), (20_000, None)])
async def test_a_workflow_of_ones_own_shares_one_limit(temporal: Client, limit: int, answers: int | None) -> None:
    biller = Biller(turns=3)
    async with worker(make_app(biller, on_limit="fail"), temporal) as client:
        run = await client.start_workflow("Spending", [1], limits=Limits(max_total_tokens=limit))
        found = await client.result(run.workflow_id, timeout=TIME)
    assert biller.billed_tokens <= limit
    if answers is None:
        assert found < 8
        assert biller.billed_tokens > limit * 0.6
    else:
        assert found == answers


class Halted(Biller):
    """Never answers one of two calls, and refuses the other once the first is open."""

    async def call(self, request: ModelRequest, on_text: TextSink) -> ModelReply:
        asked = request.fragments[0].body
        if b"slow" in asked:
            self.requests.append(request)
            await asyncio.sleep(3600)
        while b"fails" in asked:
            if self.requests:
                raise ModelCallError("no quota", kind="fatal")
            await asyncio.sleep(0.01)
        return await super().call(request, on_text)


@pytest.mark.parametrize("is_map", [False, True], ids=["runs", "nodes of a map"])
async def test_what_runs_did_not_spend_that_were_cancelled_comes_back(temporal: Client, is_map: bool) -> None:
    biller, limit = Halted(turns=0), 60_000
    async with worker(make_app(biller, on_limit="fail"), temporal) as client:
        run = await client.start_workflow("Halting", [is_map], limits=Limits(max_total_tokens=limit))
        assert await client.result(run.workflow_id, timeout=TIME) == "that is all"
        spent = (await client.query(run.workflow_id, "perdure.money"))["spent"]["tokens"]
    assert 1_000 < spent < 6_000, "one call that was cut, at its worst case, and one that was answered"


async def test_a_workflow_that_continues_as_new_keeps_count(temporal: Client) -> None:
    biller, limit = Biller(turns=1), 12_000
    async with worker(make_app(biller, on_limit="fail"), temporal) as client:
        run = await client.start_workflow("Generations", [50], limits=Limits(max_total_tokens=limit))
        left = await client.result(run.workflow_id, timeout=TIME)
    assert 1 < 50 - left < 20
    assert limit * 0.6 < biller.billed_tokens <= limit


async def test_whoever_asks_goes_on_when_the_root_is_raised(temporal: Client) -> None:
    """Also after a restart of the worker, and with the limit two levels above."""
    biller, app_options = Biller(turns=2), {"on_limit": "ask"}
    queue = "shared-money-ask"
    items = [f"item {number}" for number in range(6)]
    async with worker(make_app(biller, **app_options), temporal, queue=queue) as client:
        limits = Limits(max_total_tokens=9_000)
        run = await client.start_map("worker", items, max_parallel=6, limits=limits)
        waiting = await wait_for_states(client, run.workflow_id, items)
        assert waiting
        used = biller.billed_tokens
        assert used <= 9_000
        details = await client.show(run.workflow_id)
        assert details.money is not None
        assert details.money.budget.tokens == 9_000
        child = await client.query(waiting[0], "perdure.status")
        assert f"perdure limit {run.workflow_id}" in child["activity"]
        with pytest.raises(InvalidInputError, match=f"waits for its share of the limit of '{run.workflow_id}'"):
            await client.set_limits(waiting[0], Limits(max_total_tokens=100_000))
    async with worker(make_app(biller, **app_options), temporal, queue=queue) as client:
        with pytest.raises(InvalidInputError, match="is below what is spent"):
            await client.set_limits(run.workflow_id, Limits(max_total_tokens=100))
        with pytest.raises(InvalidInputError, match="max_turns can't be set on a run that is no agent's"):
            await client.set_limits(run.workflow_id, Limits(max_turns=5))
        limits = await client.set_limits(run.workflow_id, Limits(max_total_tokens=200_000))
        assert limits.max_total_tokens == 200_000
        result = await client.result(run.workflow_id, timeout=TIME)
    assert isinstance(result, MapResult)
    assert [each.output for each in result.outcomes] == ["that is all"] * len(items)
    assert used < biller.billed_tokens <= 200_000


async def test_a_single_run_says_how_it_ended(temporal: Client) -> None:
    biller = Biller(turns=50)
    async with worker(make_app(biller, on_limit="fail"), temporal) as client:
        run = await client.start_agent("worker", "go", limits=Limits(max_total_tokens=4_000))
        with pytest.raises(LimitExceeded) as caught:
            await client.result(run.workflow_id, timeout=TIME)
    assert caught.value.attributes["limit"] == "max_total_tokens=4000"


async def wait_for_states(client: PerdureClient, root: str, items: list[str]) -> list[str]:
    """Return the runs that wait at the limit, once no other is at work."""
    async with asyncio.timeout(TIME.total_seconds()):
        while True:
            states = {f"{root}/{n}": await state_of(client, f"{root}/{n}") for n in range(len(items))}
            if set(states.values()) <= {"waiting_limit", "completed"}:
                return [name for name, state in states.items() if state == "waiting_limit"]
            await asyncio.sleep(0.2)


async def state_of(client: PerdureClient, workflow_id: str) -> str:
    with suppress(RunNotFoundError):
        return (await client.query(workflow_id, "perdure.status"))["state"]
    return "absent"
