"""A run that is started again goes on with what those before it took of the limit, worst cases included."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from temporalio.client import Client

from perdure import Agent, App, Limits, ModelSettings
from perdure.client import PerdureClient
from perdure.contracts.map import MapResult
from perdure.contracts.money import MoneyStatus
from perdure.contracts.run import RunResult
from perdure.errors import LimitExceeded
from tests.support.biller import Biller, think
from tests.support.workers import worker

TIME = timedelta(seconds=60)


def make_app(biller: Biller, **options: Any) -> App:
    settings = ModelSettings(max_output_tokens=1000)
    agent = Agent("worker", model="biller:x", tools=[think], settings=settings, **options)
    return App(agents=[agent], providers=[biller])


async def money(client: PerdureClient, workflow_id: str) -> MoneyStatus:
    return MoneyStatus.model_validate(await client.query(workflow_id, "perdure.money"))


async def wait_for_limit(client: PerdureClient, workflow_id: str) -> MoneyStatus:
    async with asyncio.timeout(TIME.total_seconds()):
        while (await client.query(workflow_id, "perdure.status"))["state"] != "waiting_limit":
            await asyncio.sleep(0.1)
    return await money(client, workflow_id)


async def cost_tokens(client: PerdureClient, workflow_id: str) -> int:
    """Return what `perdure cost` counts, once the server's list of runs has the end of the run."""
    async with asyncio.timeout(TIME.total_seconds()):
        while True:
            rows = (await client.cost(by="run")).rows
            found = [row for row in rows if row.name == workflow_id and not row.open]
            if found:
                return found[0].tokens
            await asyncio.sleep(0.2)


async def test_worst_cases_are_not_forgotten(temporal: Client) -> None:
    """Also when the run was terminated, so that it could say nothing itself."""
    biller = Biller(turns=50, next_end=lambda number: "unknown" if number == 2 else "ok")
    async with worker(make_app(biller, on_limit="ask"), temporal) as client:
        run = await client.start_agent("worker", "go", limits=Limits(max_total_tokens=6_000))
        before = await wait_for_limit(client, run.workflow_id)
        assert before.spent.tokens > biller.billed_tokens, "nothing counted at its worst case"
        await client.terminate(run.workflow_id, reason="test")
        shown = (await client.show(run.workflow_id)).money
        assert shown is not None
        assert shown.spent == before.spent
        told = sum(each.total_tokens for each in biller.told)
        assert await cost_tokens(client, run.workflow_id) == told
        asked = len(biller.requests)
        await client.rerun(run.workflow_id)
        after = await wait_for_limit(client, run.workflow_id)
        assert (after.spent, len(biller.requests)) == (before.spent, asked)
        await client.set_limits(run.workflow_id, Limits(max_total_tokens=9_000))
        await wait_for_limit(client, run.workflow_id)
        await client.terminate(run.workflow_id, reason="test")
        await client.rerun(run.workflow_id)
        again = await wait_for_limit(client, run.workflow_id)
    assert again.budget.tokens == 9_000, "the raised limit is forgotten"
    assert biller.billed_tokens <= again.spent.tokens <= 9_000


async def test_a_run_whose_first_call_failed_is_not_free(temporal: Client) -> None:
    """There is nothing to go on from; what was billed counts all the same."""
    biller = Biller(turns=0, next_end=lambda number: "broken" if number == 1 else "ok")
    async with worker(make_app(biller, on_limit="fail"), temporal) as client:
        run = await client.start_agent("worker", "go", limits=Limits(max_total_tokens=3_600))
        with pytest.raises(LimitExceeded):
            await client.result(run.workflow_id, timeout=TIME)
        assert len(biller.requests) == 1
        await client.rerun(run.workflow_id, limits=Limits(max_total_tokens=3_700))
        with pytest.raises(LimitExceeded):
            await client.result(run.workflow_id, timeout=TIME)
        assert len(biller.requests) == 1
        await client.rerun(run.workflow_id, limits=Limits(max_total_tokens=9_000))
        result = await client.result(run.workflow_id, timeout=TIME)
    assert isinstance(result, RunResult)
    assert result.output == "that is all"


async def test_a_map_that_is_started_again_keeps_count(temporal: Client) -> None:
    """It is reset: what it spent after that point is no more in its history."""
    biller, limit = Biller(turns=2), 9_000
    items = [f"item {number}" for number in range(8)]
    async with worker(make_app(biller, on_limit="fail"), temporal) as client:
        limits = Limits(max_total_tokens=limit)
        run = await client.start_map("worker", items, max_parallel=2, limits=limits)
        with pytest.raises(LimitExceeded):
            await client.result(run.workflow_id, timeout=TIME)
        used = biller.billed_tokens
        await client.rerun(run.workflow_id)
        with pytest.raises(LimitExceeded):
            await client.result(run.workflow_id, timeout=TIME)
        assert used <= biller.billed_tokens <= limit
        await client.rerun(run.workflow_id)
        await client.set_limits(run.workflow_id, Limits(max_total_tokens=100_000))
        result = await client.result(run.workflow_id, timeout=TIME)
    assert isinstance(result, MapResult)
    assert [each.output for each in result.outcomes] == ["that is all"] * len(items)
