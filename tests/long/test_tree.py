"""The tree of a run: children of any workflow class, tasks of a plan, with and without a worker."""

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Any

import pytest
from temporalio.client import Client

from perdure.app import App
from perdure.cli._tree import tree_lines
from perdure.client import PerdureClient, RunDetails, TreeNode
from perdure.contracts.map import MapInput
from perdure.contracts.names import MAP_WORKFLOW, PLAN_WORKFLOW
from perdure.contracts.plan import Plan, PlanRunInput, Task
from tests.support.plan_app import app as plan_app
from tests.support.tree_workflows import Inner, Outer
from tests.support.workers import worker

TIME = timedelta(seconds=60)
app = App(
    agents=list(plan_app.agents.values()),
    workflows=[*plan_app.workflows.values(), Inner, Outer],
    providers=list(plan_app.providers),
)


@pytest.fixture(scope="module")
async def client(temporal: Client) -> AsyncIterator[PerdureClient]:
    async with worker(app, temporal) as running:
        yield running


async def until(
    client: PerdureClient, workflow_id: str, is_there: Callable[[RunDetails], bool], **options: Any
) -> RunDetails:
    """Look until what should be there is: the server's list of runs lags."""
    async with asyncio.timeout(20):
        while not is_there(run := await client.show(workflow_id, **options)):
            await asyncio.sleep(0.1)
        return run


def states(nodes: tuple[TreeNode, ...]) -> dict[str, str]:
    return {node.name: node.state for node in nodes}


def drawn(run: RunDetails) -> list[str]:
    """Return the lines of the tree, without the times."""
    return [" ".join(line.plain.split()) for line in tree_lines(run.tree)]


async def test_runs_below_runs_of_users_own_classes(client: PerdureClient) -> None:
    workflow_id = (await client.start_workflow("Outer", [8])).workflow_id

    def is_whole(run: RunDetails) -> bool:
        inner = run.tree.children[1:]
        return bool(inner) and inner[0].state == "completed" and sum(inner[0].hidden.values()) == 4

    run = await until(client, workflow_id, is_whole)
    assert states(run.tree.children) == {"worker-1": "completed", "inner": "completed"}
    inner = run.tree.children[1]
    assert (inner.workflow, len(inner.children), inner.hidden) == ("Inner", 5, {"completed": 4})
    assert states(inner.children)["worker-9"] == "failed", "what went wrong is shown first"
    whole = await client.show(workflow_id, is_all=True)
    assert list(states(whole.tree.children[1].children)) == [f"worker-{n}" for n in range(1, 10)]
    flat = await client.show(workflow_id, depth=1)
    assert [node.children for node in flat.tree.children] == [(), ()]
    await client.signal(workflow_id, "close")
    assert await client.result(workflow_id, timeout=TIME) == 8


async def test_many_children_are_collapsed(client: PerdureClient) -> None:
    request = MapInput(agent="worker", items=tuple(f"item {n}" for n in range(24)), max_parallel=2)
    workflow_id = (await client.start_workflow(MAP_WORKFLOW, [request])).workflow_id
    await client.result(workflow_id, timeout=TIME)

    def count(run: RunDetails) -> int:
        return sum(len(node.children) + sum(node.hidden.values()) for node in run.tree.children)

    run = await until(client, workflow_id, lambda run: count(run) == 24)
    assert all(len(node.children) <= 5 for node in run.tree.children)
    assert any(line.lstrip("│ ").startswith("└─ … ") and line.endswith("completed") for line in drawn(run))


def _plan() -> PlanRunInput:
    tasks = (
        Task(id="a", agent="worker", input="a"),
        Task(id="bad", agent="worker", input="fail", on_error="skip_dependents"),
        Task(id="lost", agent="worker", needs=("bad",)),
        Task(id="long", agent="slow", needs=("a",)),
        Task(id="end", agent="worker", needs=("a", "long")),
    )
    return PlanRunInput(plan=Plan(tasks=tasks))


async def test_tasks_have_a_state_and_say_what_they_wait_for(client: PerdureClient) -> None:
    workflow_id = (await client.start_workflow(PLAN_WORKFLOW, [_plan()])).workflow_id
    run = await until(client, workflow_id, lambda run: states(run.tree.children).get("lost") == "skipped")
    run = await until(client, workflow_id, lambda run: states(run.tree.children)["long"] == "running")
    assert states(run.tree.children) == {
        "a": "done",
        "bad": "failed",
        "lost": "skipped",
        "long": "running",
        "end": "waiting",
    }
    lines = drawn(run)
    assert lines[0].startswith("├─ done a worker")
    assert "UnexpectedModelBehavior: agent 'worker'" in lines[1]
    assert lines[4] == "└─ waiting end worker waits for long"
    await client.cancel(workflow_id)


async def test_without_a_worker_tasks_come_from_history(temporal: Client) -> None:
    async with worker(app, temporal, grace_period_seconds=0.1) as client:
        workflow_id = (await client.start_workflow(PLAN_WORKFLOW, [_plan()])).workflow_id
        await until(client, workflow_id, lambda run: states(run.tree.children).get("long") == "running")
    run = await client.show(workflow_id)
    found = {**states(run.tree.children), "lost": "?"}
    assert found == {"a": "done", "bad": "failed", "lost": "?", "long": "running", "end": "waiting"}
    assert run.plan is not None
    assert run.plan.tasks[4].waits_for == ("long",)
    await client.terminate(workflow_id, reason="the test is over")
    closed = await client.show(workflow_id)
    assert states(closed.tree.children)["end"] == "skipped"


async def test_watch_tells_of_children_and_draws_the_tree(client: PerdureClient) -> None:
    workflow_id = (await client.start_workflow("Outer", [2])).workflow_id
    told: list[tuple[str, str]] = []
    trees: list[dict[str, str]] = []
    async for event in client.watch(workflow_id, with_tree=True):
        if event.child is not None:
            told.append((event.child.workflow_id.removeprefix(f"{workflow_id}/"), event.child.status))
        if event.tree is not None:
            trees.append(states(event.tree.children))
            if trees[-1].get("inner") == "completed":
                await client.signal(workflow_id, "close")
    assert told == [(name, state) for name in ("worker-1", "inner") for state in ("running", "completed")]
    assert trees[-1] == {"worker-1": "completed", "inner": "completed"}
    quiet = [event.kind async for event in client.watch(workflow_id)]
    assert set(quiet) == {"child", "closed"}
