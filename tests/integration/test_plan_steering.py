"""Plans that change while they run: planners, verifiers, artifacts, amendments, tasks run again."""

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from temporalio.client import Client, WorkflowHistory
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import Replayer

from perdure.client import PerdureClient
from perdure.contracts.names import PLAN_QUERY, PLAN_WORKFLOW
from perdure.contracts.plan import Plan, PlanAmendment, PlanResult, PlanRunInput, PlanStatus, Task
from perdure.errors import (
    InvalidInputError,
    InvalidPlanError,
    PlanFailed,
    RunNotFoundError,
    UnexpectedModelBehavior,
)
from perdure.wiring import sandboxed_runner
from perdure.workflows.interceptor import PerdureInterceptor
from perdure.workflows.plan_workflow import PlanWorkflow
from tests.support.steer_app import PlannedByMe, app
from tests.support.workers import worker

TIME = timedelta(seconds=60)


@pytest.fixture(scope="module")
async def client(temporal: Client) -> AsyncIterator[PerdureClient]:
    async with worker(app, temporal) as running:
        yield running


def task(id: str, *needs: str, **fields: Any) -> Task:
    given: dict[str, Any] = {"agent": "worker", "needs": needs, "input": id, **fields}
    return Task(id=id, **given)


async def start(client: PerdureClient, *tasks: Task, goal: str = "", **fields: Any) -> str:
    request = PlanRunInput(plan=Plan(tasks=tasks, **fields), goal=goal)
    return (await client.start_workflow(PLAN_WORKFLOW, [request])).workflow_id


async def end(client: PerdureClient, workflow_id: str) -> PlanResult:
    return PlanResult.model_validate(await client.result(workflow_id, timeout=TIME))


def states(result: PlanResult | PlanStatus) -> dict[str, str]:
    return {each.id: each.state for each in result.tasks}


async def replay(client: PerdureClient, workflow_id: str) -> WorkflowHistory:
    runner = sandboxed_runner()
    replayer = Replayer(
        workflows=[PlanWorkflow, PlannedByMe],
        data_converter=pydantic_data_converter,
        interceptors=[PerdureInterceptor()],
        workflow_runner=runner,
        unsandboxed_workflow_runner=runner,
    )
    history = await client.temporal.get_workflow_handle(workflow_id).fetch_history()
    await replayer.replay_workflow(history)
    return history


async def until(client: PerdureClient, workflow_id: str, **wanted: str) -> PlanStatus:
    for _ in range(200):
        if (answer := await client.query(workflow_id, PLAN_QUERY)) is not None:
            status = PlanStatus.model_validate(answer)
            if wanted.items() <= states(status).items():
                return status
        await asyncio.sleep(0.1)
    raise AssertionError(f"the plan never came to {wanted}")


async def test_a_planner_is_told_every_fault_of_its_plans(client: PerdureClient) -> None:
    request = PlanRunInput(goal="Find out.", planner="planner", synthesiser="writer")
    run = await client.start_workflow(PLAN_WORKFLOW, [request])
    result = await end(client, run.workflow_id)
    assert result.outputs == {"a": "<a>", "b": "<<a>>"}
    assert "b:\n<<a>>" in str(result.answer)
    entries = await client.transcript(f"{run.workflow_id}/planner-1")
    told = [entry.message.text for entry in entries if entry.message.role == "user"]
    assert "- worker: Works." in told[0]
    assert "Tasks wait for each other: a → b → a." in told[1]
    assert "there is no agent 'wroker'. Did you mean 'worker'?" in told[2]
    assert "needs 'c', and there is no such task" in told[2]
    await replay(client, run.workflow_id)


async def test_a_planner_that_never_gets_it_right_ends_the_run(client: PerdureClient) -> None:
    run = await client.start_workflow(PLAN_WORKFLOW, [PlanRunInput(goal="hopeless", planner="planner")])
    with pytest.raises(UnexpectedModelBehavior, match=r"(?s)rejected the answer 3 times.*a → b → a"):
        await end(client, run.workflow_id)


async def test_a_workflow_of_ones_own_has_a_plan_written(client: PerdureClient) -> None:
    run = await client.start_workflow("PlannedByMe", ["Find out."])
    result = await end(client, run.workflow_id)
    assert (result.outputs["b"], "<<a>>" in str(result.answer)) == ("<<a>>", True)
    await replay(client, run.workflow_id)


@pytest.mark.parametrize(
    ("goal", "ends", "replans"),
    [
        ("again", {"done": "done", "bad": "done", "after": "done"}, 1),
        ("touch", {"done": "done", "bad": "done", "after": "done"}, 1),
        ("leave", {"done": "done", "bad": "failed", "after": "skipped", "extra": "done"}, 1),
    ],
)
async def test_a_planner_replaces_what_failed(
    client: PerdureClient, goal: str, ends: dict[str, str], replans: int
) -> None:
    tasks = [task("done"), task("bad", "done", input="fail", on_error="replan"), task("after", "bad")]
    workflow_id = await start(client, *tasks, goal=goal, planner="planner")
    result = await end(client, workflow_id)
    assert states(result) == ends
    assert result["done"].attempts == 1
    assert result["bad"].attempts == (1 if goal == "leave" else 2)
    assert PlanStatus.model_validate(await client.query(workflow_id, PLAN_QUERY)).replans == replans
    await replay(client, workflow_id)


async def test_replanning_has_an_end(client: PerdureClient) -> None:
    bad = task("bad", input="fail", on_error="replan")
    workflow_id = await start(client, task("done"), bad, goal="in vain", planner="planner", max_replans=2)
    with pytest.raises(PlanFailed, match="task 'bad'") as raised:
        await end(client, workflow_id)
    assert raised.value.attributes["results"] == {"done": "<done>"}
    assert PlanStatus.model_validate(await client.query(workflow_id, PLAN_QUERY)).replans == 2


async def test_a_planner_that_fails_ends_the_plan(client: PerdureClient) -> None:
    bad = task("bad", input="fail", on_error="replan")
    workflow_id = await start(client, bad, planner="worker", title="fail")
    with pytest.raises(PlanFailed, match=r"task 'bad': .* Replanning failed: agent 'worker'"):
        await end(client, workflow_id)


async def test_a_result_is_verified(client: PerdureClient) -> None:
    workflow_id = await start(
        client,
        task("function", input="digit", verify="has_a_digit"),
        task("agent", input="digit", verify="judge"),
        task("never", input="digit never", verify="has_a_digit", on_error="continue"),
    )
    result = await end(client, workflow_id)
    assert result.outputs == {"function": "4", "agent": "4"}
    assert [(each.task, each.type) for each in result.failures] == [("never", "UnexpectedModelBehavior")]
    assert (
        "has_a_digit rejected the answer 3 times. The last reason: It has no digit." in result.failures[0].message
    )
    told = await client.transcript(f"{workflow_id}/plan-1/function")
    assert any("It has no digit." in entry.message.text for entry in told)


async def test_an_artifact_is_referred_to_and_not_copied(client: PerdureClient) -> None:
    readers = [task(f"r{n}", "long", input="{{artifacts.text}}", on_error="continue") for n in range(5)]
    workflow_id = await start(
        client,
        task("long", input="long 100000", produces=("text",)),
        task("huge", input="long 400000", produces=("book",)),
        task("page", agent="pager", produces=("outline", "title")),
        task("wrong", agent="pager", produces=("outline2", "title2"), on_error="continue"),
        task("after", "wrong", input="{{artifacts.title2}}"),
        task("end", "page", "huge", input="{{artifacts.title}} {{artifacts.outline.1}}"),
        task("book", "huge", input="{{artifacts.book}}"),
        *readers,
    )
    result = await end(client, workflow_id)
    assert {str(result[each.id].output) for each in readers} == {"<100000 characters>"}
    assert result["end"].output == "<T two>"
    assert result["book"].output == "<400000 characters>"
    assert result["wrong"].failure is not None
    history = await client.temporal.get_workflow_handle(f"{workflow_id}/plan-1/r0").fetch_history()
    assert len(history.to_json()) < 50_000


async def test_tasks_that_have_not_started_are_amended(client: PerdureClient) -> None:
    workflow_id = await start(
        client, task("slow", agent="late"), task("b", "slow"), task("c", "b"), task("d", "slow")
    )
    await until(client, workflow_id, slow="running")
    bad = PlanAmendment(tasks=(task("slow"), task("x", "y"), task("z", agent="wroker")), drop=("b", "nope"))
    with pytest.raises(InvalidPlanError) as raised:
        await client.amend_plan(workflow_id, bad)
    told = [fault["message"] for fault in raised.value.attributes["faults"]]
    assert told == [
        "Task 'slow' is running: it can't be changed any more.",
        "There is no task 'nope' to drop. Known: b, c, d, slow.",
        "Task 'c' needs 'b', and there is no such task. Known: c, d, slow, x, z.",
        "Task 'x' needs 'y', and there is no such task. Known: c, d, slow, x, z.",
        "Task 'z': there is no agent 'wroker'. Did you mean 'worker'?",
    ]
    status = await client.amend_plan(
        workflow_id, PlanAmendment(tasks=(task("b", "slow", "new", input="{{new}}"), task("new")), drop=("d",))
    )
    assert "d" not in states(status)
    result = await end(client, workflow_id)
    assert states(result) == dict.fromkeys(("slow", "b", "c", "new"), "done")
    assert result["b"].output == "<<new>>"
    await replay(client, workflow_id)
    with pytest.raises(RunNotFoundError, match="perdure rerun"):
        await client.amend_plan(workflow_id, PlanAmendment(drop=("c",)))


async def test_an_amendment_may_come_before_the_plan(temporal: Client) -> None:
    """It is there when the first worker comes, and is applied once the plan is."""
    idle = PerdureClient(temporal, task_queue="nobody-yet")
    workflow_id = await start(idle, task("a"), task("b", "a"))
    amending = asyncio.create_task(idle.amend_plan(workflow_id, PlanAmendment(tasks=(task("c", "b"),))))
    again = asyncio.create_task(idle.amend_plan(workflow_id, PlanAmendment(tasks=(task("d", "nope"),))))
    await asyncio.sleep(1)
    async with worker(app, temporal, queue="nobody-yet") as client:
        await amending
        with pytest.raises(InvalidPlanError, match="needs 'nope'"):
            await again
        assert states(await end(client, workflow_id)) == dict.fromkeys("abcd"[:3], "done")
        await replay(client, workflow_id)


async def test_a_failed_task_is_run_again(client: PerdureClient) -> None:
    workflow_id = await start(
        client,
        task("slow", agent="late", input="x"),
        task("slower", "slow", agent="late", input="x"),
        task("slowest", "slower", agent="late", input="x"),
        task("bad", input=f"flaky {time.time() + 1.5}", on_error="skip_dependents"),
        task("after", "bad", input="{{bad}}"),
        task("last", "after"),
    )
    await until(client, workflow_id, bad="failed", last="skipped")
    with pytest.raises(InvalidInputError, match=r"'slow.*' is .*: only one that failed"):
        await client.retry_task(workflow_id, "slowest")
    with pytest.raises(InvalidInputError, match=r"no task 'bda'\. Did you mean 'bad'"):
        await client.retry_task(workflow_id, "bda")
    await asyncio.sleep(1.5)
    await client.retry_task(workflow_id, "last")
    result = await end(client, workflow_id)
    assert set(states(result).values()) == {"done"}
    assert (result["bad"].attempts, result["after"].output) == (2, "<late enough>")
    await replay(client, workflow_id)
    with pytest.raises(RunNotFoundError, match="perdure rerun"):
        await client.retry_task(workflow_id, "bad")
