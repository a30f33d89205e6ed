"""Every policy, with failures everywhere, while the worker is killed: no result is lost, or made twice."""

import asyncio
from collections import Counter
from datetime import timedelta
from typing import Any
from uuid import uuid4

from temporalio.client import Client

from perdure.client import PerdureClient
from perdure.contracts.names import PLAN_QUERY, PLAN_WORKFLOW
from perdure.contracts.plan import OnTaskError, Plan, PlanResult, PlanRunInput, PlanStatus, RetryWith, Task
from perdure.devserver import DevServer
from perdure.errors import PlanFailed, RunCancelled
from tests.support.workers import WorkerProcess

TIME = timedelta(seconds=90)
NEEDS: dict[str, tuple[str, ...]] = {"root": (), "beside": (), "middle": ("root",), "leaf": ("middle",)}
POLICIES: dict[str, OnTaskError] = {
    "fail": "fail",
    "skip": "skip_dependents",
    "continue": "continue",
    "retry": RetryWith(retry_with="fixer"),
    "replan": "replan",
}
PLACES = {
    "root": ("root",),
    "middle": ("middle",),
    "leaf": ("leaf",),
    "two": ("beside", "middle"),
    "cancelled": ("root",),
}
CASES = [(policy, place) for policy in POLICIES for place in PLACES]


def plan_of(policy: str, place: str) -> Plan:
    def task(name: str) -> Task:
        if name in PLACES[place]:
            return Task(id=name, agent="late", needs=NEEDS[name], input="fail", on_error=POLICIES[policy])
        agent = "slow" if (place, name) == ("cancelled", "beside") else "late"
        return Task(id=name, agent=agent, needs=NEEDS[name], input=name)

    return Plan(tasks=tuple(task(name) for name in NEEDS), planner="planner")


async def test_no_result_is_lost_or_made_twice(server: DevServer, temporal: Client) -> None:
    """All cases at once, on one worker that is killed three times under them."""
    queue = f"q-{uuid4().hex[:8]}"
    client = PerdureClient(temporal, task_queue=queue)
    async with WorkerProcess(server.address, queue, "tests.support.steer_app:app") as process:
        ids = [await _start(client, *case) for case in CASES]
        await asyncio.gather(*(_begun(client, id) for id in ids))
        for turn in range(3):
            await process.kill()
            if turn == 0:
                await _cancel(client, ids)
            await process.start()
            await asyncio.sleep(1.2)
        await asyncio.gather(*(_check(client, *case, id) for case, id in zip(CASES, ids, strict=True)))


async def _start(client: PerdureClient, policy: str, place: str) -> str:
    request = PlanRunInput(plan=plan_of(policy, place), goal="again")
    id = f"{policy}-{place}-{uuid4().hex[:6]}"
    return (await client.start_workflow(PLAN_WORKFLOW, [request], id=id)).workflow_id


async def _begun(client: PerdureClient, id: str) -> None:
    """Wait until its first tasks are at work; asks the server alone."""
    handle = client.temporal.get_workflow_handle(id)
    while not (await handle.describe()).raw_description.pending_children:
        await asyncio.sleep(0.2)


async def _cancel(client: PerdureClient, ids: list[str]) -> None:
    """Cancel, while no worker is there, those whose case it is: the next worker sees it with a failure or two."""
    for id in ids:
        if "-cancelled-" in id:
            await client.cancel(id)


async def _check(client: PerdureClient, policy: str, place: str, id: str) -> None:
    failing = PLACES[place]
    states = await _end(client, id)
    assert place != "cancelled" or states is None or policy == "fail"
    if states is None:
        assert place == "cancelled"
        status = PlanStatus.model_validate(await client.query(id, PLAN_QUERY))
        assert {each.state for each in status.tasks} <= {"cancelled", "skipped", "done", "failed"}
    elif policy != "fail":
        assert states == _expected(policy, failing), (policy, place)
    else:
        assert {name for name, state in states.items() if state == "failed"} <= set(failing)
        assert "failed" in states.values()
    await _check_runs(client, policy, failing, id)


async def _end(client: PerdureClient, id: str) -> dict[str, str] | None:
    """Return the state of every task at the end; None of a plan that was cancelled."""
    try:
        result = PlanResult.model_validate(await client.result(id, timeout=TIME))
    except PlanFailed as error:
        return error.attributes["states"]
    except RunCancelled:
        return None
    return {each.id: each.state for each in result.tasks}


def _expected(policy: str, failing: tuple[str, ...]) -> dict[str, str]:
    if policy in ("retry", "replan"):
        return dict.fromkeys(NEEDS, "done")
    states = {name: "failed" if name in failing else "done" for name in NEEDS}
    if policy == "skip":
        for name, needs in NEEDS.items():
            if any(states[need] in ("failed", "skipped") for need in needs):
                states[name] = "skipped"
    return states


async def _check_runs(client: PerdureClient, policy: str, failing: tuple[str, ...], id: str) -> None:
    """A task has as many runs as its policy allows; one that was done has one."""
    history = await client.temporal.get_workflow_handle(id).fetch_history()
    runs: Counter[str] = Counter()
    completed: Counter[str] = Counter()
    for event in history.events:
        if event.HasField("child_workflow_execution_started_event_attributes"):
            attributes: Any = event.child_workflow_execution_started_event_attributes
            runs[_task_of(attributes.workflow_execution.workflow_id)] += 1
        if event.HasField("child_workflow_execution_completed_event_attributes"):
            attributes = event.child_workflow_execution_completed_event_attributes
            completed[_task_of(attributes.workflow_execution.workflow_id)] += 1
    for name in NEEDS:
        most = 2 if name in failing and policy in ("retry", "replan") else 1
        assert runs[name] <= most, (id, name)
        assert completed[name] <= 1, (id, name)


def _task_of(workflow_id: str) -> str:
    return workflow_id.rpartition("/")[2].partition(".")[0]
