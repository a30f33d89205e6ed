"""A run that failed is started again from its last good turn, task or item: nothing finished is repeated."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import Replayer

from perdure import Limits
from perdure.client import PerdureClient
from perdure.contracts.map import MapInput
from perdure.contracts.messages import TextPart
from perdure.contracts.names import MAP_WORKFLOW, PLAN_WORKFLOW
from perdure.contracts.plan import Plan, PlanResult, PlanRunInput, Task
from perdure.contracts.run import RunInput
from perdure.errors import InvalidInputError, LimitExceeded, PerdureError, RunNotFoundError
from perdure.wiring import sandboxed_runner
from perdure.workflows.agent import AgentWorkflow
from perdure.workflows.interceptor import PerdureInterceptor
from perdure.workflows.map_workflows import MapWorkflow
from perdure.workflows.plan_workflow import PlanWorkflow
from tests.support import rerun_app
from tests.support.rerun_app import app, asked, effects, failing
from tests.support.rerun_workflows import Chain
from tests.support.workers import worker

TIME = timedelta(seconds=60)


@pytest.fixture(scope="module")
async def client(temporal: Client) -> AsyncIterator[PerdureClient]:
    async with worker(app, temporal, grace_period_seconds=0.1) as running:
        yield running


@pytest.fixture(autouse=True)
def _fresh() -> None:
    rerun_app.forget()


async def fails(client: PerdureClient, workflow_id: str) -> PerdureError:
    with pytest.raises(PerdureError) as raised:
        await client.result(workflow_id, timeout=TIME)
    return raised.value


def once(*texts: str, but: str = "") -> dict[str, int]:
    """Return how often the steps of these texts are asked for: once, but for one that failed."""
    return {f"{text}:{turn}": 2 if f"{text}:{turn}" == but else 1 for text in texts for turn in range(3)}


async def test_an_agent_goes_on_from_its_last_good_turn(client: PerdureClient) -> None:
    failing.add("x:2")
    run = await client.start_agent("stepper", "x", tenant="t")
    assert (await fails(client, run.workflow_id)).type == "ModelUnavailable"
    failing.clear()
    again = await client.rerun(run.workflow_id)
    assert (again.workflow_id, again.is_beginning) == (run.workflow_id, False)
    assert again.kept == "2 turns, 5 messages"
    result = await client.result(run.workflow_id, timeout=TIME)
    assert (result.output, result.counters.turns, result.counters.tool_calls) == ("<x>", 3, 2)
    assert asked == once("x", but="x:2")
    assert [what for what, _ in effects] == ["x0", "x1"]
    entries = await client.transcript(run.workflow_id)
    assert [entry.slot for entry in entries] == list(range(6))


async def test_a_limit_has_to_be_raised(client: PerdureClient) -> None:
    run = await client.start_agent("short", "l")
    assert isinstance(await fails(client, run.workflow_id), LimitExceeded)
    with pytest.raises(InvalidInputError, match=r"at its limit max_turns: raise it with `--limit max_turns=N`"):
        await client.rerun(run.workflow_id)
    with pytest.raises(InvalidInputError, match="max_turns"):
        await client.rerun(run.workflow_id, limits=Limits(max_tool_calls=5))
    await client.rerun(run.workflow_id, limits=Limits(max_turns=5))
    result = await client.result(run.workflow_id, timeout=TIME)
    assert result.output == "<l>"
    assert asked == once("l")
    assert (await client.show(run.workflow_id)).limits["max_turns"] == 5


async def test_replies_that_could_not_be_used_are_left_out(client: PerdureClient) -> None:
    failing.update(f"empty e:{turn}" for turn in range(1, 10))
    run = await client.start_agent("stepper", "e", limits=Limits(max_consecutive_errors=2))
    assert (await fails(client, run.workflow_id)).type == "UnexpectedModelBehavior"
    failing.clear()
    await client.rerun(run.workflow_id)
    result = await client.result(run.workflow_id, timeout=TIME)
    assert result.output == "<e>"
    texts = [entry.message.author for entry in await client.transcript(run.workflow_id)]
    assert "perdure" not in texts
    assert asked["e:0"] == 1


async def test_a_turn_that_was_cut_off_is_finished(client: PerdureClient) -> None:
    """One call is done, one may have taken effect, one is idempotent, and one is a subagent in its third turn."""
    failing.update(("slow", "late", "s:2"))
    run = await client.start_agent("both", "go")
    failing.discard("s:2")
    await _until(lambda: {what for what, _ in effects} >= {"fast", "slow", "late"} and asked["s:2"] > 0)
    await asyncio.sleep(0.5)
    await client.terminate(run.workflow_id, reason="the test")
    keys = dict(effects)
    failing.clear()
    again = await client.rerun(run.workflow_id)
    assert "1 tool calls whose outcome is unknown are not made again" in again.kept
    result = await client.result(run.workflow_id, timeout=TIME)
    fast, slow, late, sub = result.output.splitlines()
    assert (fast, late, sub) == ("did fast", "did late", "<s>")
    assert slow.startswith("outcome unknown: the run ended while pay ran.")
    assert Counter(what for what, _ in effects) == {"fast": 1, "slow": 1, "late": 2, "s0": 1, "s1": 1}
    assert {key for what, key in effects if what == "late"} == {keys["late"]}, "another key books twice"
    assert asked["both:0"] == 1


async def test_results_that_answer_identical_calls_are_kept(client: PerdureClient) -> None:
    failing.add("look:1")
    run = await client.start_agent("looker", "go")
    await fails(client, run.workflow_id)
    failing.clear()
    await client.rerun(run.workflow_id)
    result = await client.result(run.workflow_id, timeout=TIME)
    assert (result.output, result.counters.saved_tool_calls) == ("seen", 1)
    assert [what for what, _ in effects] == ["sky"]


async def test_a_large_spec_is_copied_before_a_long_message(client: PerdureClient) -> None:
    """Together they are more than an activity's result may take."""
    failing.add("x:2")
    run = await client.start_agent("heavy", "x".ljust(1_400_000, "."))
    await fails(client, run.workflow_id)
    failing.clear()
    await client.rerun(run.workflow_id)
    assert (await client.result(run.workflow_id, timeout=TIME)).output == "<x>"
    assert asked == once("x", but="x:2")


async def test_nothing_to_keep(client: PerdureClient) -> None:
    failing.add("n:0")
    run = await client.start_agent("stepper", "n")
    await fails(client, run.workflow_id)
    failing.clear()
    again = await client.rerun(run.workflow_id)
    assert again.is_beginning
    assert (await client.result(run.workflow_id, timeout=TIME)).output == "<n>"


async def test_runs_that_are_not_started_again(client: PerdureClient) -> None:
    failing.add("x0")
    run = await client.start_agent("stepper", "x")
    with pytest.raises(InvalidInputError, match=r"is open: `perdure watch"):
        await client.rerun(run.workflow_id)
    failing.clear()
    await client.result(run.workflow_id, timeout=TIME)
    with pytest.raises(InvalidInputError, match=r"completed: `perdure result"):
        await client.rerun(run.workflow_id)
    with pytest.raises(RunNotFoundError):
        await client.rerun("nobody")


def _plan() -> PlanRunInput:
    tasks = (
        Task(id="a", agent="stepper", input="a"),
        Task(id="b", agent="stepper", input="b", needs=("a",)),
        Task(id="c", agent="stepper", input="c"),
        Task(id="d", agent="stepper", input="d", needs=("c",)),
        Task(id="e", agent="stepper", input="e {{b}} {{d}}", needs=("b", "d")),
    )
    return PlanRunInput(plan=Plan(tasks=tasks))


async def test_a_plan_keeps_its_finished_tasks(client: PerdureClient) -> None:
    failing.add("b:2")
    workflow_id = (await client.start_workflow(PLAN_WORKFLOW, [_plan()])).workflow_id
    assert (await fails(client, workflow_id)).type == "PlanFailed"
    before = Counter(asked)
    await client.rerun(workflow_id)
    assert (await fails(client, workflow_id)).type == "PlanFailed", "it still fails"
    failing.clear()
    await client.rerun(workflow_id)
    result = PlanResult.model_validate(await client.result(workflow_id, timeout=TIME))
    shown = (await client.show(workflow_id)).tree.children
    assert {node.name: node.state for node in shown} == dict.fromkeys("abcde", "done")
    assert result.outputs["e"] == "<e <b> <d>>"
    assert {task.state for task in result.tasks} == {"done"}
    assert before["b:2"] == 1
    assert asked["b:2"] == 3
    again = {name for name, count in asked.items() if count > 1} - {"b:2"}
    assert len({name[0] for name in again}) == len(again) <= 2, f"at most the call that was cut off: {again}"
    assert Counter(what for what, _ in effects)["a0"] == 1
    assert Counter(what for what, _ in effects)["b1"] == 1


def _map(*items: str) -> MapInput:
    return MapInput(agent="stepper", items=items, max_parallel=4)


@pytest.mark.parametrize("workflow", ["MapWorkflow", "Mapped"])
async def test_a_map_keeps_its_items(client: PerdureClient, workflow: str) -> None:
    failing.add("m9:2")
    items = tuple(f"m{n}" for n in range(12))
    given: Any = 12 if workflow == "Mapped" else _map(*items)
    workflow_id = (await client.start_workflow(workflow, [given])).workflow_id
    await fails(client, workflow_id)
    done = {name for name, count in asked.items() if count}
    failing.clear()
    await client.rerun(workflow_id)
    result = await client.result(workflow_id, timeout=TIME)
    outputs = result if workflow == "Mapped" else [outcome.output for outcome in result.outcomes]
    assert outputs == [f"<{item}>" for item in items]
    again = {name for name, count in asked.items() if count > 1}
    assert "m9:2" in again
    assert len(done) > 8
    assert len(again) <= 4, f"at most what was in flight: {again}"


@pytest.mark.parametrize("workflow", ["MapWorkflow", "MappedAsTree"])
async def test_outputs_that_stay_in_a_node_are_in_their_places(client: PerdureClient, workflow: str) -> None:
    """More than a node tells of itself: they are read from its history, where those that were kept are results
    of another kind than those of its own children."""
    items = tuple(f"long m{n}" for n in range(12))
    failing.add("long m9:2")
    workflow_id = (await client.start_workflow(workflow, [_map(*items)])).workflow_id
    await fails(client, workflow_id)
    failing.clear()
    await client.rerun(workflow_id)
    result = await client.result(workflow_id, timeout=TIME)
    outputs = result if workflow == "MappedAsTree" else [outcome.output for outcome in result.outcomes]
    assert [output.split()[-1] for output in outputs] == [f"m{n}>" for n in range(12)]
    assert sum(map(len, outputs)) > 64_000


async def test_items_are_kept_however_often_a_map_is_started_again(client: PerdureClient) -> None:
    """The second time, the first items were kept by a node that was told of them, and didn't run them."""
    failing.update(("m3:2", "m4:2"))
    items = tuple(f"m{n}" for n in range(10))
    given = _map(*items).model_copy(update={"max_parallel": 1})
    workflow_id = (await client.start_workflow(MAP_WORKFLOW, [given])).workflow_id
    await fails(client, workflow_id)
    failing.discard("m3:2")
    await client.rerun(workflow_id)
    await fails(client, workflow_id)
    failing.clear()
    await client.rerun(workflow_id)
    result = await client.result(workflow_id, timeout=TIME)
    assert [outcome.output for outcome in result.outcomes] == [f"<{item}>" for item in items]
    assert {name for name, count in asked.items() if count > 1} == {"m3:2", "m4:2"}


async def test_a_workflow_of_ones_own(client: PerdureClient) -> None:
    failing.add("w-1:2")
    workflow_id = (await client.start_workflow("Chain", ["w"])).workflow_id
    await fails(client, workflow_id)
    failing.clear()
    again = await client.rerun(workflow_id)
    assert again.repeats == ()
    told = await client.result(workflow_id, timeout=TIME)
    assert told == ["<w-a>", "did w-paid", "<w-0>", "<w-1>", "<w-2>"]
    assert Counter(what for what, _ in effects)["w-paid"] == 1
    assert {asked[f"w-a:{turn}"] for turn in range(3)} == {1}


async def test_a_workflow_that_is_started_again_twice_goes_on_from_the_second_time(client: PerdureClient) -> None:
    failing.add("w-1:1")
    workflow_id = (await client.start_workflow("Chain", ["w"])).workflow_id
    await fails(client, workflow_id)
    failing.symmetric_difference_update(("w-1:1", "w-1:2"))
    await client.rerun(workflow_id)
    await fails(client, workflow_id)
    failing.clear()
    await client.rerun(workflow_id)
    assert len(await client.result(workflow_id, timeout=TIME)) == 5
    assert [asked[f"w-1:{turn}"] for turn in range(3)] == [1, 2, 2], "each but the one that failed is asked once"


async def test_a_cancelled_workflow_goes_on(client: PerdureClient) -> None:
    failing.update(("w-00", "w-10", "w-20"))
    workflow_id = (await client.start_workflow("Chain", ["w"])).workflow_id
    await _until(lambda: {what for what, _ in effects} >= {"w-00", "w-10", "w-20"})
    await client.cancel(workflow_id)
    assert (await fails(client, workflow_id)).type == "RunCancelled"
    failing.clear()
    await client.rerun(workflow_id)
    assert len(await client.result(workflow_id, timeout=TIME)) == 5
    assert {asked[f"w-{n}:0"] for n in range(3)} == {1}


async def test_a_tool_that_may_have_taken_effect_is_not_called_again(client: PerdureClient) -> None:
    failing.add("w-paid")
    workflow_id = (await client.start_workflow("Chain", ["w"])).workflow_id
    await _until(lambda: "w-paid" in {what for what, _ in effects})
    await client.terminate(workflow_id, reason="the test")
    failing.clear()
    with pytest.raises(InvalidInputError, match="would call pay again, which may have taken effect"):
        await client.rerun(workflow_id)
    await client.rerun(workflow_id, is_repeating=True)
    assert (await client.result(workflow_id, timeout=TIME))[1] == "did w-paid"


@pytest.mark.parametrize("workflow", ["Chain", PLAN_WORKFLOW, MAP_WORKFLOW, "AgentWorkflow"])
async def test_what_was_started_again_replays(client: PerdureClient, workflow: str) -> None:
    failing.update(("w-1:2", "b:2", "m9:2"))
    given: dict[str, Any] = {
        "Chain": "w",
        PLAN_WORKFLOW: _plan(),
        MAP_WORKFLOW: MapInput(agent="stepper", items=("m8", "m9", "m10")),
        "AgentWorkflow": RunInput(agent="stepper", input=(TextPart(text="m9"),)),
    }
    workflow_id = (await client.start_workflow(workflow, [given[workflow]])).workflow_id
    await fails(client, workflow_id)
    failing.clear()
    await client.rerun(workflow_id)
    await client.result(workflow_id, timeout=TIME)
    replayer = Replayer(
        workflows=[AgentWorkflow, Chain, MapWorkflow, PlanWorkflow],
        interceptors=[PerdureInterceptor()],
        data_converter=pydantic_data_converter,
        workflow_runner=sandboxed_runner(),
    )
    await replayer.replay_workflow(await client.temporal.get_workflow_handle(workflow_id).fetch_history())


async def _until(is_so: Any) -> None:
    async with asyncio.timeout(20):
        while not is_so():
            await asyncio.sleep(0.05)
