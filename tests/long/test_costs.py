"""`perdure cost`: each known dollar once, with the agent and the model that it was spent on, whatever the way."""

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
from temporalio.client import Client

from perdure import Limits
from perdure.client import CostReport, CostRow, PerdureClient
from perdure.client._cost import CostBy
from perdure.contracts.names import BILL_MEMO, PLAN_WORKFLOW
from perdure.contracts.plan import Plan, PlanRunInput, Task
from perdure.errors import LimitExceeded, RunError, TaskFailed
from tests.support.cost_app import PRICES, make_app
from tests.support.workers import worker

TIME = timedelta(seconds=60)


@pytest.fixture(scope="module")
async def client(temporal: Client) -> AsyncIterator[PerdureClient]:
    async with worker(make_app(), temporal, prices=PRICES) as made:
        yield made


class Shop:
    """Runs in the test's own time, and what they cost."""

    def __init__(self, client: PerdureClient) -> None:
        self.client = client
        self._since = datetime.now(UTC)

    async def run(self, name: str, *args: Any, tenant: str = "", **options: Any) -> str:
        """Run an agent, or with arguments a workflow, to its end."""
        id = options.pop("id", f"{name}-{uuid4().hex[:8]}")
        if args:
            await self.client.start_workflow(name, args, id=id, tenant=tenant)
        else:
            await self.client.start_agent(name, "go", id=id, tenant=tenant, **options)
        await self.client.result(id, timeout=TIME)
        return id

    async def fail(self, name: str, *args: Any, kind: type[Exception] = RunError, **options: Any) -> str:
        """Run it to a failure."""
        id = f"{name}-{uuid4().hex[:8]}"
        with pytest.raises(kind):
            await self.run(name, *args, id=id, **options)
        return id

    async def cost(self, by: CostBy, *, is_there: Callable[[CostReport], bool]) -> CostReport:
        """Return what was spent since the test began, once the server's list has it."""
        async with asyncio.timeout(TIME.total_seconds()):
            while True:
                report = await self.client.cost(since=datetime.now(UTC) - self._since, by=by)
                if is_there(report):
                    return report
                await asyncio.sleep(0.2)

    async def spent(self, by: CostBy, *, runs: int, open: int = 0) -> dict[str, str]:
        """Return the dollars of each row, once so many runs are there."""
        report = await self.cost(by, is_there=lambda found: (found.total.runs, found.total.open) == (runs, open))
        assert sum(row.cost_usd for row in report.rows) == report.total.cost_usd
        assert sum(row.tokens for row in report.rows) == report.total.tokens
        assert not report.is_partial
        return {row.name: f"{row.cost_usd:.1f}" for row in report.rows}


@pytest.fixture
def shop(client: PerdureClient) -> Shop:
    return Shop(client)


async def has_bill(client: PerdureClient, workflow_id: str) -> bool:
    described = await client.temporal.get_workflow_handle(workflow_id).describe()
    return BILL_MEMO in described.raw_description.workflow_execution_info.memo.fields


async def test_by_model_and_agent_after_fallbacks_and_handoffs(shop: Shop) -> None:
    plain, *others = [await shop.run(name) for name in ("plain", "falls", "shaky", "front")]
    assert await shop.spent("model", runs=4) == {"dear:x": "6.0", "cheap:x": "0.4", "shaky:x": "0.2"}
    assert await shop.spent("agent", runs=4) == {
        "shaky": "2.2",
        "back": "2.0",
        "falls": "2.0",
        "front": "0.2",
        "plain": "0.2",
    }
    assert not await has_bill(shop.client, plain), "its search attributes tell all, and nothing more is written"
    assert all([await has_bill(shop.client, id) for id in others])
    report = await shop.client.cost(since=TIME, by="model")
    assert {row.name: row.runs for row in report.rows}["dear:x"] >= 3


async def test_a_tree_and_two_tenants(shop: Shop) -> None:
    await shop.run("boss", tenant="left bank")
    await shop.run("plain", tenant="right bank")
    await shop.run("shaky", tenant="right bank")
    plan = Plan(tasks=(Task(id="one", agent="plain", input="go"), Task(id="two", agent="falls", input="go")))
    await shop.run(PLAN_WORKFLOW, PlanRunInput(plan=plan), tenant="left bank")
    assert await shop.spent("tenant", runs=6) == {"left bank": "2.8", "right bank": "2.4"}
    assert await shop.spent("agent", runs=6) == {"shaky": "2.2", "falls": "2.0", "plain": "0.6", "boss": "0.4"}
    day = datetime.now(UTC).date().isoformat()
    assert (await shop.spent("day", runs=6))[day] == "5.2"


async def test_inline_agents_of_a_workflow_of_ones_own(shop: Shop) -> None:
    chain = await shop.run("Desk", 1, "done", tenant="left bank")
    failed = await shop.fail("Desk", 0, "fail", kind=TaskFailed, tenant="right bank")
    below = await shop.run("Office", "done", tenant="right bank")
    by_run = await shop.spent("run", runs=3)
    assert by_run == {chain: "4.4", failed: "2.2", f"{below}/desk": "2.2"}
    assert await shop.spent("tenant", runs=3) == {"left bank": "4.4", "right bank": "4.4"}
    assert await shop.spent("agent", runs=3) == {"falls": "8.0", "plain": "0.8"}
    assert await shop.spent("model", runs=3) == {"dear:x": "8.0", "cheap:x": "0.8"}


async def test_what_is_open_or_was_ended_from_outside(shop: Shop) -> None:
    """Who could tell nothing has it in its history, and who goes on is counted, not added up."""
    desks = [(await shop.client.start_workflow("Desk", [left, "wait"])).workflow_id for left in (0, 1)]
    waits = (await shop.client.start_agent("waits", "go")).workflow_id
    async with asyncio.timeout(TIME.total_seconds()):
        while (await shop.client.query(waits, "perdure.status"))["state"] != "waiting_limit":
            await asyncio.sleep(0.1)
    for id, is_continued in zip(desks, (False, True), strict=True):
        await _until_paid(shop.client, id, calls=2, is_continued=is_continued)
    assert await shop.spent("run", runs=3, open=3) == {**dict.fromkeys(desks, "0.0"), waits: "0.0"}
    for id in (*desks, waits):
        await shop.client.terminate(id, reason="the test is over")
    assert await shop.spent("run", runs=3) == {desks[0]: "2.2", desks[1]: "4.4", waits: "0.2"}
    assert (await shop.spent("model", runs=3))["dear:x"] == "6.0"


async def _until_paid(client: PerdureClient, workflow_id: str, *, calls: int, is_continued: bool) -> None:
    """Wait until a run, the one that continues the first where that is wanted, has had its answers."""
    async with asyncio.timeout(TIME.total_seconds()):
        while True:
            events = (await client.temporal.get_workflow_handle(workflow_id).fetch_history()).events
            before = events[0].workflow_execution_started_event_attributes.continued_execution_run_id
            names = [event.WhichOneof("attributes") for event in events]
            is_answered = names.count("activity_task_completed_event_attributes") >= calls
            if is_answered and bool(before) == is_continued:
                return
            await asyncio.sleep(0.1)


async def test_what_is_unknown_is_counted_beside_what_is_known(shop: Shop) -> None:
    await shop.run("gratis")
    await shop.run("plain")
    report = await shop.cost("model", is_there=lambda found: found.total.runs == 2 and not found.total.open)
    assert report.rows == (
        CostRow(name="cheap:x", runs=1, tokens=110, cost_usd=Decimal("0.2")),
        CostRow(name="gratis:x", runs=1, unknown=1, tokens=110),
    )
    assert (report.total.unknown, report.total.tokens) == (1, 220)


async def test_a_run_that_is_started_again_pays_for_what_is_new_alone(shop: Shop) -> None:
    """The desk is reset to before the call that failed: the dear model is asked again, the cheap one isn't."""
    agent = await shop.fail("cut", kind=LimitExceeded)
    await shop.client.rerun(agent, limits=Limits(max_turns=5))
    await shop.client.result(agent, timeout=TIME)
    workflow = await shop.fail("Desk", 0, "fail", kind=TaskFailed)
    await shop.client.rerun(workflow)
    with pytest.raises(TaskFailed):
        await shop.client.result(workflow, timeout=TIME)
    assert await shop.spent("run", runs=4) == {workflow: "4.2", agent: "0.4"}


async def test_since_leaves_out_what_began_before(client: PerdureClient) -> None:
    before = Shop(client)
    first = await before.run("plain")
    now = Shop(client)
    second = await now.run("plain")
    assert await now.spent("run", runs=1) == {second: "0.2"}
    assert {first, second} <= (await before.spent("run", runs=2)).keys()
