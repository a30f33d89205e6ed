"""Limits of money and tokens on a real server: what the vendor billed never exceeds them."""

import asyncio
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
from temporalio.client import Client

from perdure import Agent, App, Limits, ModelSettings
from perdure.cli._limits import money_pairs
from perdure.client import PerdureClient
from perdure.contracts.run import RunResult, RunStatus
from perdure.errors import InvalidInputError, LimitExceeded
from perdure.testing import ScriptedModel, calls
from tests.support.biller import Biller, think
from tests.support.workers import worker

TIME = timedelta(seconds=60)


def make_app(biller: Biller, limits: Limits, **options: Any) -> App:
    settings = ModelSettings(max_output_tokens=1000)
    agent = Agent("worker", model="biller:x", tools=[think], limits=limits, settings=settings, **options)
    return App(agents=[agent], providers=[biller])


async def finished(client: PerdureClient, workflow_id: str) -> RunResult:
    result = await client.result(workflow_id, timeout=TIME)
    assert isinstance(result, RunResult)
    return result


async def test_a_limit_holds_and_most_of_it_is_used(temporal: Client) -> None:
    biller = Biller(next_end=lambda number: ["ok", "ok", "busy", "broken", "unknown"][number % 5])
    async with worker(make_app(biller, Limits(max_total_tokens=20_000)), temporal) as client:
        run = await client.start_agent("worker", "go")
        result = await finished(client, run.workflow_id)
        troubles = (await client.show(run.workflow_id)).troubles
    # The vendor is busy, and cuts the next attempt off: Temporal tells the last failure, and the count.
    assert {(trouble.model, trouble.failure, trouble.attempts) for trouble in troubles} == {("biller:x", "cut", 2)}
    assert result.limit == "max_total_tokens=20000"
    assert result.output == "that is all"
    assert 8_000 < biller.billed_tokens <= 20_000
    assert {"broken", "busy", "unknown"} <= {biller.next_end(n) for n in range(1, len(biller.requests) + 1)}


async def test_a_reply_is_shortened_to_what_is_left(temporal: Client) -> None:
    biller = Biller(output_share=1.0)
    app = make_app(biller, Limits(max_total_tokens=2_000), on_limit="fail")
    async with worker(app, temporal) as client:
        run = await client.start_agent("worker", "go")
        with pytest.raises(LimitExceeded, match="max_total_tokens=2000"):
            await client.result(run.workflow_id, timeout=TIME)
    assert biller.billed_tokens <= 2_000
    assert biller.requests[0].max_output_tokens is not None
    assert biller.requests[0].max_output_tokens < 1000


async def test_without_such_a_limit_nothing_is_bounded(temporal: Client) -> None:
    biller = Biller(turns=0)
    app = make_app(biller, Limits())
    async with worker(app, temporal) as client:
        run = await client.start_agent("worker", "go")
        await finished(client, run.workflow_id)
        status: RunStatus = await client.temporal.get_workflow_handle(run.workflow_id).query(
            "perdure.status", result_type=RunStatus
        )
    assert status.budget is None


async def test_a_run_that_asks_waits_until_its_limit_is_raised(temporal: Client) -> None:
    biller = Biller(turns=8)
    app = make_app(biller, Limits(max_total_tokens=5_000), on_limit="ask")
    queue = "money-ask"
    async with worker(app, temporal, queue=queue) as client:
        run = await client.start_agent("worker", "go")
        assert (await waiting(client, run.workflow_id)).state == "waiting_limit"
        used = biller.billed_tokens
        assert used <= 5_000
        details = await client.show(run.workflow_id)
        assert details.money is not None
        assert details.money.spent.tokens == used
        assert details.money.left is not None
        assert dict(money_pairs(details.money))["left"] == f"{5_000 - used:,} tokens"
    async with worker(app, temporal, queue=queue) as client:
        with pytest.raises(InvalidInputError, match="below what is spent"):
            await client.set_limits(run.workflow_id, Limits(max_total_tokens=100))
        limits = await client.set_limits(run.workflow_id, Limits(max_total_tokens=50_000))
        assert limits.max_total_tokens == 50_000
        result = await finished(client, run.workflow_id)
    assert result.limit is None
    assert used < biller.billed_tokens <= 50_000


def make_team(biller: Biller, limits: Limits, *, workers: int, **options: Any) -> App:
    """Return a boss that calls so many workers at once."""
    settings = ModelSettings(max_output_tokens=1000)
    member = Agent("member", model="biller:x", tools=[think], settings=settings, description="Thinks.")
    orders = calls(*[("member", {"input": f"part {number}"}) for number in range(workers)])
    script = ScriptedModel([orders, "all parts are done"])
    held = limits.model_copy(update={"max_parallel_tool_calls": workers, "allow_unknown_prices": True})
    boss = Agent("worker", model="scripted:x", tools=[member.as_tool()], limits=held, settings=settings, **options)
    return App(agents=[boss, member], providers=[biller, script])


@pytest.mark.parametrize(("limit", "least"), [(12_000, 0.35), (30_000, 0.5)])
async def test_a_tree_shares_the_limit_of_its_root(temporal: Client, limit: int, least: float) -> None:
    """In the smaller there is hardly room for more than one call of each and the last ones."""
    biller = Biller(turns=1000, delay_seconds=0.01, output_share=0.8)
    app = make_team(biller, Limits(max_total_tokens=limit), workers=6)
    async with worker(app, temporal) as client:
        run = await client.start_agent("worker", "go")
        await ended(client, run.workflow_id)
        told = await signals(client, run.workflow_id)
    assert "perdure.lease" in told, "nobody asked for more"
    assert limit * least < biller.billed_tokens <= limit


async def test_leases_that_are_large_enough_cost_no_event(temporal: Client) -> None:
    biller = Biller(turns=2)
    app = make_team(biller, Limits(max_total_tokens=1_000_000), workers=3)
    async with worker(app, temporal) as client:
        run = await client.start_agent("worker", "go")
        result = await finished(client, run.workflow_id)
        told = await signals(client, run.workflow_id)
    assert (result.output, told) == ("all parts are done", [])


async def signals(client: PerdureClient, workflow_id: str) -> list[str]:
    history = await client.temporal.get_workflow_handle(workflow_id).fetch_history()
    found = [each.workflow_execution_signaled_event_attributes.signal_name for each in history.events]
    return [name for name in found if name]


async def ended(client: PerdureClient, workflow_id: str) -> None:
    """Wait for the end of a run, whatever that is."""
    with suppress(LimitExceeded):
        await finished(client, workflow_id)


async def waiting(client: PerdureClient, workflow_id: str) -> RunStatus:
    handle = client.temporal.get_workflow_handle(workflow_id)
    async with asyncio.timeout(TIME.total_seconds()):
        while True:
            status = await handle.query("perdure.status", result_type=RunStatus)
            if status.state not in ("starting", "working"):
                return status
            await asyncio.sleep(0.05)
