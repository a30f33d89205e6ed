"""A limit that is set on an open run counts what is over below it, or is refused."""

import asyncio
from contextlib import suppress
from datetime import timedelta
from decimal import Decimal

import pytest
from temporalio.client import Client

from perdure import Agent, App, Compaction, Limits
from perdure.client import PerdureClient
from perdure.contracts.steering import Session
from perdure.errors import InvalidInputError, ModelCallError, RunNotFoundError
from perdure.testing import ScriptedModel, calls
from tests.support.workers import worker

TIME = timedelta(seconds=20)
SESSION = Session(idle_timeout=timedelta(hours=1))
PRICE = {"input_usd": 1, "output_usd": 1}
BOSS = [calls(("lead", {"input": "go"})), "done", "again"]
ORDERS = calls(("member", {"input": "a"}), ("member", {"input": "b"}))
GONE = ModelCallError("no such model", kind="fatal")


def make_app(*, is_failing: bool = False, delay_seconds: float = 0) -> App:
    """Return a boss with a lead, which has two members."""
    providers = [
        ScriptedModel(BOSS),
        ScriptedModel([ORDERS, GONE if is_failing else "led"], name="leading"),
        ScriptedModel(["worked"], name="working", delay_seconds=delay_seconds),
    ]
    member = Agent("member", model="working:x", description="Works.")
    lead = Agent("lead", model="leading:x", tools=[member.as_tool()], description="Leads.")
    boss = Agent("boss", model="scripted:x", tools=[lead.as_tool()])
    return App(agents=[boss, lead, member], providers=providers)


async def reaches(client: PerdureClient, id: str, state: str) -> None:
    async with asyncio.timeout(TIME.total_seconds()):
        while await state_of(client, id) != state:
            await asyncio.sleep(0.05)


async def state_of(client: PerdureClient, id: str) -> str:
    with suppress(RunNotFoundError):
        return (await client.query(id, "perdure.status"))["state"]
    return "absent"


@pytest.mark.parametrize(("is_failing", "taken"), [(False, 6), (True, 5)])
async def test_it_counts_what_closed_runs_below_took(temporal: Client, is_failing: bool, taken: int) -> None:
    """Two calls of the boss's, one or two of the lead's, one of each member's."""
    async with worker(make_app(is_failing=is_failing), temporal) as client:
        id = (await client.start_agent("boss", "go", session=SESSION)).workflow_id
        await reaches(client, id, "idle")
        with pytest.raises(InvalidInputError, match=f"is below what is spent already: {taken}"):
            await client.set_limits(id, Limits(max_model_calls=taken - 1))
        await client.set_limits(id, Limits(max_model_calls=taken + 3))
        await client.send(id, "again")
        await reaches(client, id, "idle")
        details = await client.show(id)
        assert details.money is not None
        assert details.money.spent.model_calls == taken + 1


async def test_it_is_refused_where_a_run_below_did_not_tell(temporal: Client) -> None:
    async with worker(make_app(delay_seconds=60), temporal) as client:
        id = (await client.start_agent("boss", "go", session=SESSION)).workflow_id
        await reaches(client, f"{id}/lead-1/member-2", "working")
        await temporal.get_workflow_handle(f"{id}/lead-1").terminate()
        await reaches(client, id, "idle")
        with pytest.raises(InvalidInputError, match="1 runs below this one ended without telling"):
            await client.set_limits(id, Limits(max_model_calls=100))
        await client.set_limits(id, Limits(max_turns=100))


async def test_it_needs_the_price_of_a_summariser(temporal: Client) -> None:
    reader = Agent("reader", model="scripted:x", compaction=Compaction(model="free:x"))
    app = App(agents=[reader], providers=[ScriptedModel(["read"]), ScriptedModel(["short"], name="free")])
    async with worker(app, temporal, prices={"scripted:x": PRICE}) as client:
        id = (await client.start_agent("reader", "go", session=SESSION)).workflow_id
        await reaches(client, id, "idle")
        with pytest.raises(InvalidInputError, match="The price of free:x is not known"):
            await client.set_limits(id, Limits(max_cost_usd=Decimal(1)))


async def test_a_lease_in_dollars_needs_the_price_of_a_summariser(temporal: Client) -> None:
    reader = Agent("reader", model="reading:x", compaction=Compaction(model="free:x"), description="Reads.")
    boss = Agent("boss", model="scripted:x", tools=[reader.as_tool()])
    reading = ScriptedModel(["read"], name="reading")
    script = [calls(("reader", {"input": "go"})), "done"]
    app = App(agents=[boss, reader], providers=[ScriptedModel(script), reading, ScriptedModel(["s"], name="free")])
    async with worker(app, temporal, prices={"scripted:x": PRICE, "reading:x": PRICE}) as client:
        run = await client.start_agent("boss", "go", limits=Limits(max_cost_usd=Decimal(1)))
        await client.result(run.workflow_id, timeout=TIME)
        told = await client.transcript(run.workflow_id)
    assert "the price of free:x is not known" in str(told)
    assert not reading.requests
