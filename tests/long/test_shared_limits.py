"""A tree shares its root's limits of calls too, and answers with what it has when they are reached."""

import asyncio
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
from temporalio.client import Client

from perdure import Agent, App, Limits, ModelSettings, tool
from perdure.cli._limits import money_pairs
from perdure.client import PerdureClient
from perdure.contracts.map import MapResult
from perdure.contracts.names import PLAN_WORKFLOW
from perdure.contracts.plan import Plan, PlanResult, PlanRunInput, Task
from perdure.contracts.run import RunResult
from perdure.errors import InvalidInputError, LimitExceeded, RunNotFoundError
from perdure.testing import ScriptedModel, calls
from tests.support.approval_app import TOOLS, script, turns
from tests.support.biller import Biller, think
from tests.support.money_workflows import Generations, Spending
from tests.support.workers import worker

TIME = timedelta(seconds=60)
MEMBERS = 4


def make_app(biller: Biller, **options: Any) -> App:
    """Return a boss that calls so many members at once, none of which ever has enough."""
    settings = ModelSettings(max_output_tokens=1000)
    member = Agent("worker", model="biller:x", tools=[think], settings=settings, description="Thinks.", **options)
    orders = calls(*[("worker", {"input": f"part {number}"}) for number in range(MEMBERS)])
    script = ScriptedModel([orders, "all parts are done"])
    boss = Agent("boss", model="scripted:x", tools=[member.as_tool()], settings=settings)
    return App(agents=[boss, member], providers=[biller, script], workflows=[Spending, Generations])


async def finished(client: PerdureClient, workflow_id: str) -> RunResult:
    result = await client.result(workflow_id, timeout=TIME)
    assert isinstance(result, RunResult)
    return result


@pytest.mark.parametrize(
    ("limit", "told"),
    [
        (Limits(max_model_calls=20), "max_model_calls"),
        (Limits(max_tool_calls=12), "max_tool_calls"),
        (Limits(max_total_tokens=40_000, allow_unknown_prices=True), "max_total_tokens"),
    ],
)
async def test_a_tree_finishes_with_what_it_has(temporal: Client, limit: Limits, told: str) -> None:
    """Each run makes a last call, for which it has kept room, and no limit is exceeded with it."""
    biller = Biller(delay_seconds=0.01, output_share=0.9)
    async with worker(make_app(biller), temporal) as client:
        run = await client.start_agent("boss", "go", limits=limit)
        result = await finished(client, run.workflow_id)
        members = [await finished(client, f"{run.workflow_id}/worker-{n + 1}") for n in range(MEMBERS)]
        shown = (await client.show(run.workflow_id)).money
    assert result.output == "all parts are done"
    # What members had kept for their last calls and did not use may be enough for one more of the boss.
    assert result.limit in ({f"{told}={getattr(limit, told)}"} | ({None} if told == "max_total_tokens" else set()))
    assert [each.output for each in members] == ["that is all"] * MEMBERS
    assert {each.limit for each in members} == {f"{told} of {run.workflow_id}"}
    counters = [each.counters for each in (result, *members)]
    taken = {
        "max_model_calls": sum(each.model_calls for each in counters),
        "max_tool_calls": sum(each.tool_calls for each in counters),
        "max_total_tokens": sum(each.usage.total_tokens for each in counters),
    }
    assert taken["max_model_calls"] == len(biller.requests) + 2
    most = getattr(limit, told)
    assert most * (0.7 if told == "max_total_tokens" else 0.9) <= taken[told] <= most
    assert shown is not None
    assert (shown.spent.model_calls, shown.spent.tool_calls) == (taken["max_model_calls"], taken["max_tool_calls"])


async def test_a_run_that_asks_for_more_calls_goes_on_when_the_root_is_raised(temporal: Client) -> None:
    biller = Biller(turns=3)
    async with worker(make_app(biller, on_limit="ask"), temporal) as client:
        run = await client.start_agent("boss", "go", limits=Limits(max_model_calls=9))
        async with asyncio.timeout(TIME.total_seconds()):
            while not await are_waiting(client, run.workflow_id):
                await asyncio.sleep(0.1)
        assert len(biller.requests) == 7, "the boss keeps its last call"
        details = await client.show(run.workflow_id)
        assert details.money is not None
        assert "model call" in dict(money_pairs(details.money))["left"]
        with pytest.raises(InvalidInputError, match="below what is spent"):
            await client.set_limits(run.workflow_id, Limits(max_model_calls=2))
        await client.set_limits(run.workflow_id, Limits(max_model_calls=40))
        result = await finished(client, run.workflow_id)
    assert (result.output, result.limit, len(biller.requests)) == ("all parts are done", None, 4 * MEMBERS)


async def are_waiting(client: PerdureClient, root: str) -> bool:
    """Say whether no member is at work, and one waits."""
    states = {await state_of(client, f"{root}/worker-{n + 1}") for n in range(MEMBERS)}
    return "waiting_limit" in states and states <= {"waiting_limit", "completed"}


async def state_of(client: PerdureClient, workflow_id: str) -> str:
    with suppress(RunNotFoundError):
        return (await client.query(workflow_id, "perdure.status"))["state"]
    return "absent"


async def test_a_map_a_plan_and_a_workflow_share_calls(temporal: Client) -> None:
    biller = Biller(turns=2)
    limits = Limits(max_model_calls=10)
    async with worker(make_app(biller, on_limit="fail"), temporal) as client:
        run = await client.start_map("worker", list("abcdefgh"), on_error="collect", limits=limits)
        mapped = await client.result(run.workflow_id, timeout=TIME)
        assert isinstance(mapped, MapResult)
        assert {each.failure.type for each in mapped.outcomes if each.failure} == {"LimitExceeded"}
        assert len(biller.requests) == 10
        tasks = tuple(Task(id=f"t{n}", agent="worker", input="go", on_error="continue") for n in range(8))
        request = PlanRunInput(plan=Plan(tasks=tasks))
        run = await client.start_workflow(PLAN_WORKFLOW, [request], limits=limits)
        planned = await client.result(run.workflow_id, timeout=TIME)
        assert isinstance(planned, PlanResult)
        assert {each.type for each in planned.failures} == {"LimitExceeded"}
        assert len(biller.requests) == 20
        run = await client.start_workflow("Spending", [1], limits=limits)
        assert await client.result(run.workflow_id, timeout=TIME) < 8
        assert len(biller.requests) == 30
        run = await client.start_workflow("Generations", [50], limits=limits)
        assert 40 < await client.result(run.workflow_id, timeout=TIME) < 50
        assert len(biller.requests) == 40


async def test_a_plan_has_one_time_for_all_tasks(temporal: Client) -> None:
    """One task waits for a person. The other begins after that, when the time is over: nothing is asked for it."""
    first = Task(id="a", agent="doer", input=turns([("deploy", {"target": "x"})]), on_error="continue")
    second = Task(id="b", agent="doer", input=turns([("look", {"number": 2})]), on_error="continue")
    request = PlanRunInput(plan=Plan(tasks=(first, second), max_parallel=1))
    limits = Limits(wall_clock=timedelta(seconds=4))
    script_model = ScriptedModel(script)
    app = App(agents=[Agent("doer", model="scripted:x", tools=TOOLS)], providers=[script_model])
    async with worker(app, temporal) as client:
        run = await client.start_workflow(PLAN_WORKFLOW, [request], limits=limits)
        await asyncio.sleep(1)
        shown = (await client.show(run.workflow_id)).money
        with pytest.raises(InvalidInputError, match=r"wall_clock=.* is below what is spent"):
            await client.set_limits(run.workflow_id, Limits(wall_clock=timedelta(milliseconds=10)))
        result = await client.result(run.workflow_id, timeout=TIME)
        info = (await client.show(run.workflow_id)).info
    assert shown is not None
    assert "ends at" in dict(money_pairs(shown))
    assert isinstance(result, PlanResult)
    done, late = result.tasks
    assert "nobody approved it before the limit wall_clock of" in str(done.output)
    assert late.failure is not None
    assert late.failure.type == "LimitExceeded"
    assert f"wall_clock of {run.workflow_id} was reached before the run began" in late.failure.message
    assert len(script_model.requests) == 2, "the call, and the answer without it"
    assert info.closed_at is not None
    assert timedelta(seconds=3.5) < info.closed_at - info.started_at < timedelta(seconds=20)


async def test_a_tool_at_work_ends_with_the_time(temporal: Client) -> None:
    """What became of its call is not known, and the run answers with that."""

    @tool
    async def dig(depth: int) -> str:
        """Dig for a long time."""
        await asyncio.sleep(60)
        return "dug"

    model = ScriptedModel([calls(("dig", {"depth": 3})), "it is not dug"])
    app = App(agents=[Agent("digger", model="scripted:x", tools=[dig])], providers=[model])
    async with worker(app, temporal) as client:
        run = await client.start_agent("digger", "go", limits=Limits(wall_clock=timedelta(seconds=2)))
        result = await finished(client, run.workflow_id)
    assert (result.output, result.limit) == ("it is not dug", "wall_clock=0:00:02")
    assert "outcome unknown: the time for it ran out" in str(model.requests[-1].fragments[2].body)


async def test_a_run_alone_counts_its_last_call(temporal: Client) -> None:
    biller = Biller()
    async with worker(make_app(biller), temporal) as client:
        run = await client.start_agent("worker", "go", limits=Limits(max_model_calls=5))
        result = await finished(client, run.workflow_id)
        assert (result.limit, result.counters.model_calls, len(biller.requests)) == ("max_model_calls=5", 5, 5)


async def test_calls_of_before_count_when_a_run_is_started_again(temporal: Client) -> None:
    biller = Biller()
    async with worker(make_app(biller, on_limit="fail"), temporal) as client:
        run = await client.start_agent("worker", "go", limits=Limits(max_model_calls=4, max_tool_calls=50))
        with pytest.raises(LimitExceeded, match="max_model_calls=4"):
            await client.result(run.workflow_id, timeout=TIME)
        await client.rerun(run.workflow_id, limits=Limits(max_model_calls=6))
        with pytest.raises(LimitExceeded, match="max_model_calls=6"):
            await client.result(run.workflow_id, timeout=TIME)
        shown = (await client.show(run.workflow_id)).money
    assert len(biller.requests) == 6
    assert shown is not None
    assert (shown.spent.model_calls, shown.spent.tool_calls) == (6, 6)
