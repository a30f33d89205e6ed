"""Having a model choose an agent is paid from the limit of the workflow: reserved before, settled after."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import Replayer

from perdure import Agent, App, Limits, ModelSettings
from perdure.client import PerdureClient, totals
from perdure.contracts.messages import Message
from perdure.contracts.money import MoneyStatus
from perdure.contracts.names import PLAN_WORKFLOW
from perdure.contracts.plan import Plan, PlanResult, PlanRunInput, Task
from perdure.contracts.selection import SelectBy
from perdure.errors import ModelCallError
from perdure.testing import ScriptedModel
from perdure.workflows.interceptor import PerdureInterceptor
from perdure.workflows.plan_workflow import PlanWorkflow
from tests.support.select_workflows import Choosing
from tests.support.workers import worker

TIME = timedelta(seconds=60)
PRICES = {name: {"input_usd": 1, "output_usd": 4} for name in ("chooser:x", "work:x")}
CHOICE = '{"agent": "coder", "reason": "It is a program."}'


def make_app(chooser: ScriptedModel) -> App:
    settings = ModelSettings(max_output_tokens=500)
    agents = [
        Agent("lawyer", description="Knows contracts.", model="work:x", settings=settings),
        Agent("coder", description="Writes programs.", model="work:x", settings=settings),
    ]
    return App(agents=agents, providers=[chooser, ScriptedModel(["done"], name="work")], workflows=[Choosing])


def chooser_of(reply: Callable[[int], Any]) -> ScriptedModel:
    """Return a model that gives a reply by the number of the call."""
    asked: list[Any] = []

    def script(request: Any, messages: list[Message]) -> Any:
        asked.append(request)
        return reply(len(asked))

    return ScriptedModel(script, name="chooser", delay_seconds=0.05)


def plan_of(count: int) -> PlanRunInput:
    by = SelectBy(strategy="model", model="chooser:x")
    tasks = tuple(Task(id=f"t{n}", agent="auto", input="x", select=by, on_error="continue") for n in range(count))
    return PlanRunInput(plan=Plan(tasks=tasks))


async def run_plan(client: PerdureClient, count: int, limits: Limits) -> tuple[str, PlanResult, MoneyStatus]:
    run = await client.start_workflow(PLAN_WORKFLOW, [plan_of(count)], limits=limits)
    result = await client.result(run.workflow_id, timeout=TIME)
    assert isinstance(result, PlanResult)
    status = MoneyStatus.model_validate(await client.query(run.workflow_id, "perdure.money"))
    assert status.reserved.tokens == 0
    return run.workflow_id, result, status


async def test_a_choice_is_paid_for(temporal: Client) -> None:
    """Asks that gave nothing of use are too; history has the same sums, and replays."""
    chooser = chooser_of(lambda number: CHOICE if number % 2 == 0 else "hm")
    async with worker(make_app(chooser), temporal, prices=PRICES) as client:
        limits = Limits(max_cost_usd=Decimal(1), max_model_calls=20)
        workflow_id, result, status = await run_plan(client, 1, limits)
        history = await client.temporal.get_workflow_handle(workflow_id).fetch_history()
    assert result.tasks[0].chosen_by == "model: chooser:x: It is a program."
    shown = await client.show(workflow_id)
    (chosen,) = shown.selections
    assert (chosen.asks, chosen.unsettled, len(chooser.requests)) == (2, 0, 2)
    assert chosen.usage.cost_usd
    told = totals(await client.trace(workflow_id))
    assert (told.own.usage.cost_usd, chosen.model) == (chosen.usage.cost_usd, "chooser:x")
    assert {row.name: row.usage.cost_usd for row in told.models}["chooser:x"] == chosen.usage.cost_usd
    assert (status.spent.model_calls, status.spent.cost_usd > chosen.usage.cost_usd) == (3, True)
    assert shown.money is not None
    assert shown.money.spent == status.spent
    replayer = Replayer(
        workflows=[PlanWorkflow], data_converter=pydantic_data_converter, interceptors=[PerdureInterceptor()]
    )
    await replayer.replay_workflow(history)


@pytest.mark.parametrize("limits", [None, Limits(max_cost_usd=Decimal(1))])
async def test_what_choices_cost_is_counted(temporal: Client, limits: Limits | None) -> None:
    """On the workflow's bill, by model, beside the runs of the agents; without a limit, too."""
    chooser = chooser_of(lambda _: CHOICE)
    async with worker(make_app(chooser), temporal, prices=PRICES) as client:
        run = await client.start_workflow(PLAN_WORKFLOW, [plan_of(2)], limits=limits)
        await client.result(run.workflow_id, timeout=TIME)
        spent = sum(
            (each.usage.cost_usd or 0 for each in (await client.show(run.workflow_id)).selections), Decimal(0)
        )
        async with asyncio.timeout(TIME.total_seconds()):
            while run.workflow_id not in (rows := {row.name: row for row in (await client.cost(by="run")).rows}):
                await asyncio.sleep(0.2)
    assert spent > 0
    assert (rows[run.workflow_id].cost_usd, rows[run.workflow_id].unknown) == (spent, 0)
    by_model = {row.name: row.cost_usd for row in (await client.cost(by="model")).rows}
    assert by_model["chooser:x"] >= spent


async def test_without_room_for_it_rules_choose(temporal: Client) -> None:
    chooser = chooser_of(lambda _: CHOICE)
    async with worker(make_app(chooser), temporal, prices=PRICES) as client:
        workflow_id, result, _ = await run_plan(client, 1, Limits(max_total_tokens=3_000))
        (chosen,) = (await client.show(workflow_id)).selections
    assert (chosen.agent, chosen.strategy) == ("lawyer", "rules")
    assert (
        chosen.note == "the limit max_total_tokens=3000 leaves no room to ask the model chooser:x: chosen by rules"
    )
    assert result.tasks[0].chosen_by.startswith(f"rules: the first of 2 equals; {chosen.note[:40]}")
    assert chooser.requests == []


async def test_a_price_that_is_not_known_is_not_paid(temporal: Client) -> None:
    chooser = chooser_of(lambda _: CHOICE)
    prices = {"work:x": PRICES["work:x"]}
    async with worker(make_app(chooser), temporal, prices=prices) as client:
        workflow_id, *_ = await run_plan(client, 1, Limits(max_cost_usd=Decimal(1)))
        (chosen,) = (await client.show(workflow_id)).selections
    assert (chosen.strategy, chooser.requests) == ("rules", [])
    assert "max_cost_usd" in chosen.note


async def test_many_choices_at_once_never_exceed_the_limit(temporal: Client) -> None:
    """Each asks with a part of what is left, and gives back what it did not use."""
    chooser, limit = chooser_of(lambda _: CHOICE), 30_000
    async with worker(make_app(chooser), temporal, prices=PRICES) as client:
        workflow_id, result, status = await run_plan(client, 12, Limits(max_total_tokens=limit))
        chosen = (await client.show(workflow_id)).selections
    assert {each.state for each in result.tasks} == {"done"}
    assert {each.strategy for each in chosen} >= {"model"}
    assert len(chooser.requests) == sum(each.strategy == "model" for each in chosen) > 3
    assert status.spent.tokens <= limit


async def test_what_may_be_billed_counts(temporal: Client) -> None:
    """An ask that failed, and an activity whose answer is lost, count at their worst case."""
    cut = ModelCallError("cut", kind="transient", may_be_billed=True)
    limits = Limits(max_total_tokens=100_000)
    async with worker(make_app(chooser_of(lambda _: cut)), temporal, prices=PRICES) as client:
        workflow_id, _, status = await run_plan(client, 1, limits)
        (chosen,) = (await client.show(workflow_id)).selections
        assert (chosen.strategy, chosen.asks, chosen.unsettled) == ("rules", 3, 3)
        assert status.spent.tokens > 12_000
    async with worker(make_app(chooser_of(lambda _: RuntimeError("a defect"))), temporal, prices=PRICES) as client:
        workflow_id, _, lost = await run_plan(client, 1, limits)
        (chosen,) = (await client.show(workflow_id)).selections
        assert chosen.note == "the model chooser:x was asked, and its answer is lost: chosen by rules"
        shown = (await client.show(workflow_id)).money
    assert lost.spent.tokens == status.spent.tokens
    assert shown is not None
    assert shown.spent == lost.spent


async def test_a_workflow_of_ones_own_pays_for_its_choices(temporal: Client) -> None:
    chooser = chooser_of(lambda _: CHOICE)
    options = {"strategy": "model", "model": "chooser:x"}
    async with worker(make_app(chooser), temporal, prices=PRICES) as client:
        limits = Limits(max_model_calls=6)
        run = await client.start_workflow("Choosing", [["a", "inline b", "c", "d"], options], limits=limits)
        chosen = await client.result(run.workflow_id, timeout=TIME)
        status = MoneyStatus.model_validate(await client.query(run.workflow_id, "perdure.money"))
    notes = [each["note"] for each in chosen if "note" in each]
    assert [each.get("strategy") for each in chosen][:3] == ["model"] * 3
    assert notes[0].startswith("the limit max_model_calls=6 leaves no room to ask the model chooser:x")
    assert (status.spent.model_calls, len(chooser.requests)) == (6, 3)
