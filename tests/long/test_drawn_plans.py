"""Plans drawn at random, on a real server: whatever fails, they end as they must, and replay to the same end."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from random import Random
from typing import Any

import pytest
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import Client, WorkflowHistory
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import (
    ExecuteWorkflowInput,
    Interceptor,
    Replayer,
    UnsandboxedWorkflowRunner,
    WorkflowInboundInterceptor,
    WorkflowInterceptorClassInput,
    WorkflowRunner,
)

from perdure.agents.plans import final_policy
from perdure.contracts.names import PLAN_WORKFLOW
from perdure.contracts.plan import OnTaskError, Plan, PlanResult, PlanRunInput, RetryWith, Task, TaskState
from perdure.errors import PlanFailed
from perdure.wiring import sandboxed_runner
from perdure.workflows.interceptor import PerdureInterceptor
from perdure.workflows.plan_workflow import PlanWorkflow
from tests.support.steer_app import app
from tests.support.workers import worker

TIME = timedelta(seconds=90)
SEEDS = range(12)
POLICIES: list[OnTaskError] = [
    "skip_dependents",
    "continue",
    "replan",
    RetryWith(retry_with="fixer"),
    RetryWith(retry_with="late", then="continue"),
    "fail",
]
WEIGHTS = (3, 3, 2, 2, 1, 1)


def draw(seed: int) -> Plan:
    """Draw a plan of which about a third fails; what the planner or the fixer is given, it does."""
    rng = Random(seed)
    tasks: list[Task] = []
    for number in range(rng.randint(6, 11)):
        needs = [each.id for each in rng.sample(tasks, min(len(tasks), rng.randint(0, 3)))]
        does = "fail" if rng.random() < 0.35 else f"t{number}"
        tasks.append(
            Task(
                id=f"t{number}",
                agent=rng.choice(["worker", "worker", "late"]),
                input=" ".join([does, *(f"{{{{{need}}}}}" for need in needs)]),
                needs=tuple(needs),
                on_error=rng.choices(POLICIES, WEIGHTS)[0],
            )
        )
    rng.shuffle(tasks)
    return Plan(tasks=tuple(tasks), planner="planner", max_parallel=rng.randint(2, 5), max_replans=20)


def foretell(plan: Plan) -> dict[str, TaskState] | None:
    """Return how every task must end; None where one ends the plan."""
    ends: dict[str, TaskState] = {}
    for each in sorted(plan.tasks, key=lambda task: int(task.id[1:])):  # what it needs has a smaller number
        policy = final_policy(each)
        if any(not _is_enough(plan, need, ends[need]) for need in each.needs):
            ends[each.id] = "skipped"
        elif not each.input.startswith("fail") or policy == "replan" or _is_fixed(each):
            ends[each.id] = "done"
        elif policy == "fail":
            return None
        else:
            ends[each.id] = "failed"
    return ends


def _is_enough(plan: Plan, need: str, end: TaskState) -> bool:
    task = next(each for each in plan.tasks if each.id == need)
    return end == "done" or (end == "failed" and final_policy(task) == "continue")


def _is_fixed(task: Task) -> bool:
    return isinstance(task.on_error, RetryWith) and task.on_error.retry_with == "fixer"


@dataclass(frozen=True)
class Ended:
    """A plan that was executed."""

    plan: Plan
    outcome: PlanResult | PlanFailed
    history: WorkflowHistory


@pytest.fixture(scope="module")
async def ended(temporal: Client) -> dict[int, Ended]:
    """Execute all of them at once."""
    async with worker(app, temporal) as client:

        async def run(seed: int) -> Ended:
            plan = draw(seed)
            request = PlanRunInput(plan=plan, goal="again")
            id = (await client.start_workflow(PLAN_WORKFLOW, [request])).workflow_id
            try:
                outcome = PlanResult.model_validate(await client.result(id, timeout=TIME))
            except PlanFailed as error:
                outcome = error
            return Ended(plan, outcome, await client.temporal.get_workflow_handle(id).fetch_history())

        return dict(zip(SEEDS, await asyncio.gather(*map(run, SEEDS)), strict=True))


@pytest.mark.parametrize("seed", SEEDS)
async def test_it_ends_as_its_policies_say(ended: dict[int, Ended], seed: int) -> None:
    plan, outcome = ended[seed].plan, ended[seed].outcome
    foretold = foretell(plan)
    if isinstance(outcome, PlanFailed):
        states: dict[str, str] = outcome.attributes["states"]
        assert foretold is None
        assert set(states.values()) <= {"done", "failed", "skipped", "cancelled"}
        done = {name for name, state in states.items() if state == "done"}
        assert done == outcome.attributes["results"].keys(), "a finished result was lost"
        return
    assert foretold is not None
    assert {each.id: each.state for each in outcome.tasks} == foretold
    assert outcome.outputs.keys() == {name for name, state in foretold.items() if state == "done"}
    assert all(outcome.outputs.values())


@pytest.mark.parametrize("seed", SEEDS)
async def test_each_task_runs_as_often_as_it_may_and_after_what_it_needs(
    ended: dict[int, Ended], seed: int
) -> None:
    plan, known = ended[seed].plan, {each.id: each for each in ended[seed].plan.tasks}
    may = {
        each.id: 1 + isinstance(each.on_error, RetryWith) + (final_policy(each) == "replan") for each in plan.tasks
    }
    started, over = Counter[str](), set[str]()
    for name, is_start in _steps(ended[seed].history):
        if not is_start:
            over.add(name)
            continue
        started[name] += 1
        over.discard(name)
        if started[name] == 1:
            assert over.issuperset(known[name].needs), f"{name} did not wait for what it needs"
    assert [name for name, count in started.items() if count > may[name]] == []


@pytest.mark.parametrize("seed", SEEDS)
async def test_it_replays_to_the_same_end(ended: dict[int, Ended], seed: int) -> None:
    await _replay(ended[seed].history, sandboxed_runner())
    (again,) = await _replay(ended[seed].history, UnsandboxedWorkflowRunner())
    outcome = ended[seed].outcome
    if isinstance(outcome, PlanFailed):
        assert isinstance(again, PlanFailed)
        assert (again.message, again.attributes) == (outcome.message, outcome.attributes)
    else:
        assert again == outcome


def test_everything_was_drawn(ended: dict[int, Ended]) -> None:
    states: set[str] = set()
    for each in ended.values():
        if isinstance(each.outcome, PlanFailed):
            states.add("plan failed")
        else:
            states.update(task.state for task in each.outcome.tasks)
    assert states == {"done", "failed", "skipped", "plan failed"}
    asked = [each for each in ended.values() if any("-replan-" in str(event) for event in each.history.events)]
    assert len(asked) > 2, "few were replanned"


def _steps(history: WorkflowHistory) -> Iterator[tuple[str, bool]]:
    """Yield the starts and ends of tasks, in order."""
    for event in history.events:
        attributes: Any = getattr(event, event.WhichOneof("attributes") or "")
        name = str(getattr(attributes, "workflow_id", "") or _run_of(attributes)).partition("/plan-1/")[2]
        if name and event.HasField("start_child_workflow_execution_initiated_event_attributes"):
            yield name.partition(".")[0], True
        elif name and _is_end(event):
            yield name.partition(".")[0], False


def _run_of(attributes: Any) -> str:
    execution = getattr(attributes, "workflow_execution", None)
    return "" if execution is None else str(execution.workflow_id)


def _is_end(event: HistoryEvent) -> bool:
    name = event.WhichOneof("attributes") or ""
    return name.startswith("child_workflow_execution_") and "_started_" not in name


async def _replay(history: WorkflowHistory, runner: WorkflowRunner) -> list[Any]:
    """Replay a history, and return how the workflow ended then, where its runner can tell."""
    told = _Ends()
    is_open = isinstance(runner, UnsandboxedWorkflowRunner)
    replayer = Replayer(
        workflows=[PlanWorkflow],
        data_converter=pydantic_data_converter,
        interceptors=[PerdureInterceptor(), *([told] if is_open else [])],
        workflow_runner=runner,
        unsandboxed_workflow_runner=runner,
    )
    await replayer.replay_workflow(history)
    return told.found


class _Ends(Interceptor):
    """Notes what workflows return or raise."""

    def __init__(self) -> None:
        self.found: list[Any] = []

    def workflow_interceptor_class(
        self, input: WorkflowInterceptorClassInput
    ) -> type[WorkflowInboundInterceptor] | None:
        found = self.found

        class Inbound(WorkflowInboundInterceptor):
            async def execute_workflow(self, input: ExecuteWorkflowInput) -> Any:
                try:
                    result = await super().execute_workflow(input)
                except PlanFailed as error:
                    found.append(error)
                    raise
                found.append(result)
                return result

        return Inbound
