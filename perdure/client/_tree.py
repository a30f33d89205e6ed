"""The tree of a run: its children, theirs, and the tasks of a plan. Client side; needs no worker.

The direct children come from the run's own history, which is exact and read for other facts anyway. Deeper levels
come from the server's list of runs by parent, a query for each run that is shown and never one for each that there
is; that list lags by a second or so. Tasks come from the workflow's own answer, else from its input and children.
"""

import asyncio
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from pydantic import BaseModel, ConfigDict
from temporalio.client import Client

from perdure.client._children import ChildRun
from perdure.client._runs import RunInfo, count_by_status, list_runs, quoted
from perdure.contracts.plan import Plan, PlanStatus, TaskResult, TaskState

SHOWN_CHILDREN = 20
SHOWN_BELOW = 5
_EVERYTHING = 100_000
_EARLIER = 1000
_QUERIES_AT_ONCE = 8
_NUMBER = re.compile(r"([0-9]+)")
_TROUBLE = ("failed", "terminated", "timed_out")
_ORDER = (*_TROUBLE, "running", "open", "paused", "waiting", "cancelled", "canceled", "skipped")
_STATES: Mapping[str, TaskState] = {"completed": "done", "running": "running", "canceled": "cancelled"}


class TreeNode(BaseModel):
    """A child run, or a task of a plan with the run that does it."""

    model_config = ConfigDict(frozen=True)

    name: str
    """The task, or the end of the run's workflow id."""
    state: str
    """Of a run, its status; of a task, `waiting`, `running`, `done`, `failed`, `skipped` or `cancelled`."""
    is_task: bool = False
    workflow_id: str = ""
    """Empty where no run was started."""
    workflow: str = ""
    agent: str | None = None
    started_at: datetime | None = None
    closed_at: datetime | None = None
    failure: str = ""
    attempts: int = 1
    chosen_by: str = ""
    """How the agent was chosen, where a plan left that open."""
    waits_for: tuple[str, ...] = ()
    children: "tuple[TreeNode, ...]" = ()
    hidden: dict[str, int] = {}
    """How many children there are beside `children`, by state."""


class Tree(BaseModel):
    """What is below a run."""

    model_config = ConfigDict(frozen=True)

    children: tuple[TreeNode, ...] = ()
    hidden: dict[str, int] = {}
    needs_worker: bool = False
    """The run may have a plan, and only a worker could say how it stands."""


async def make_tree(
    client: Client,
    info: RunInfo,
    children: Sequence[ChildRun],
    status: PlanStatus | None,
    *,
    since: datetime,
    depth: int = 2,
    is_all: bool = False,
) -> Tree:
    """Return the tree below a run.

    Args:
        client: Of Temporal.
        info: The run.
        children: Its own, from history, and those of runs before it in its chain.
        status: Its plan, if it has one.
        since: When the first run of its chain started; nothing older belongs to the tree.
        depth: How many levels below the run.
        is_all: Every child; else the first 20 of the run and 5 of each below, those in trouble or at work before
            those that are done, and the others by number.
    """
    if depth < 1:
        return Tree()
    grower = _Grower(client, since=since, is_all=is_all)
    grown = await grower.grow(_nodes(info, children, status), depth, SHOWN_CHILDREN)
    is_planning = any(f"{info.workflow_id}/plan-" in child.workflow_id for child in children)
    return Tree.model_validate({**grown, "needs_worker": is_planning and status is None})


async def with_earlier(
    client: Client, info: RunInfo, children: Sequence[ChildRun], since: datetime
) -> list[ChildRun]:
    """Return these children of a run, and those of the runs that it continues, or was reset from."""
    if since >= info.started_at:
        return list(children)
    grower = _Grower(client, since=since, is_all=False)
    return [*await grower.earlier(info, {child.workflow_id for child in children}), *children]


def _nodes(info: RunInfo, children: Sequence[ChildRun], status: PlanStatus | None) -> list[TreeNode]:
    latest = {child.workflow_id: child for child in children}
    runs = {each.workflow_id: _of_child(each, info.workflow_id) for each in latest.values()}
    tasks = [_of_task(task, runs) for task in status.tasks] if status is not None else []
    prefix = f"{info.workflow_id}/plan-{status.number}/" if status is not None else "\n"
    return [*(node for name, node in runs.items() if not name.startswith(prefix)), *tasks]


def _of_child(child: ChildRun, parent: str) -> TreeNode:
    return TreeNode(
        name=child.workflow_id.removeprefix(f"{parent}/"),
        state=child.status,
        **child.model_dump(include={"workflow_id", "workflow", "agent", "started_at", "closed_at", "failure"}),
    )


def _of_info(info: RunInfo, parent: str) -> TreeNode:
    return TreeNode(
        name=info.workflow_id.removeprefix(f"{parent}/"),
        state=info.status,
        **info.model_dump(include={"workflow_id", "workflow", "agent", "started_at", "closed_at"}),
    )


def _of_task(task: TaskResult, runs: Mapping[str, TreeNode]) -> TreeNode:
    run = runs.get(task.workflow_id)
    failure = "" if task.failure is None else f"{task.failure.type}: {task.failure.message}"
    return TreeNode(
        name=task.id,
        state=task.state,
        is_task=True,
        workflow_id=task.workflow_id,
        workflow="" if run is None else run.workflow,
        agent=task.agent,
        started_at=None if run is None else run.started_at,
        closed_at=None if run is None else run.closed_at,
        failure=failure,
        attempts=task.attempts,
        chosen_by=task.chosen_by,
        waits_for=task.waits_for,
    )


def choose(nodes: Sequence[TreeNode], limit: int) -> tuple[list[TreeNode], dict[str, int]]:
    """Return at most `limit` nodes, the most telling ones in their order, and the number of others by state."""
    if len(nodes) <= limit:
        return list(nodes), {}
    shown = most_telling([node.state for node in nodes], limit)
    rest = Counter(node.state for node in nodes)
    rest.subtract(nodes[index].state for index in shown)
    return [nodes[index] for index in shown], {state: number for state, number in rest.items() if number}


def most_telling(states: Sequence[str], limit: int) -> list[int]:
    """Return the positions of at most `limit` of these, in order: those in trouble or at work come first."""
    urgency = {state: rank for rank, state in enumerate(_ORDER)}
    ranked = sorted(range(len(states)), key=lambda index: urgency.get(states[index], len(_ORDER)))
    return sorted(ranked[:limit])


class _Grower:
    """Asks the server for what is below runs."""

    def __init__(self, client: Client, *, since: datetime, is_all: bool) -> None:
        self._client = client
        self._since = since
        self._is_all = is_all
        self._gate = asyncio.Semaphore(_QUERIES_AT_ONCE)

    async def grow(
        self, nodes: Sequence[TreeNode], depth: int, limit: int, hidden: Mapping[str, int] | None = None
    ) -> dict[str, object]:
        """Return `children` and `hidden` of a node that has these below it."""
        shown, rest = choose(nodes, _EVERYTHING if self._is_all else limit)
        if depth > 1:
            shown = list(await asyncio.gather(*(self._grown(node, depth - 1) for node in shown)))
        return {"children": tuple(shown), "hidden": rest if hidden is None else dict(hidden)}

    async def earlier(self, info: RunInfo, known: set[str]) -> list[ChildRun]:
        """Return children of runs that this one continues, as the server lists them."""
        query = f"ParentWorkflowId = '{quoted(info.workflow_id)}' AND ExecutionStatus != 'ContinuedAsNew'"
        found = await self._list(query, _EARLIER)
        facts = {"workflow_id", "run_id", "workflow", "agent", "status", "started_at", "closed_at"}
        return [
            ChildRun.model_validate(each.model_dump(include=facts))
            for each in found
            if each.workflow_id not in known
        ]

    async def _grown(self, node: TreeNode, depth: int) -> TreeNode:
        if not node.workflow_id or node.started_at is None:
            return node
        async with self._gate:
            infos, hidden = await self._below(node.workflow_id)
        below = [_of_info(info, node.workflow_id) for info in infos]
        return node.model_copy(update=await self.grow(below, depth, SHOWN_BELOW, hidden)) if below else node

    async def _below(self, parent: str) -> tuple[list[RunInfo], dict[str, int] | None]:
        """Return children of a run by their ids; and where there are too many, the numbers of the others."""
        query = f"ParentWorkflowId = '{quoted(parent)}' AND ExecutionStatus != 'ContinuedAsNew'"
        if self._is_all:
            return await self._list(query, _EVERYTHING), None
        found = await self._list(query, SHOWN_BELOW + 1)
        if len(found) <= SHOWN_BELOW:
            return found, None
        bad = await self._list(f"{query} AND ExecutionStatus IN ('Failed', 'Terminated', 'TimedOut')", SHOWN_BELOW)
        telling = {info.workflow_id: info for info in (*bad, *found)}
        shown = sorted(list(telling.values())[:SHOWN_BELOW], key=_by_id)
        numbers = await count_by_status(self._client, query)
        numbers.subtract(Counter(info.status for info in shown))
        return shown, {state: number for state, number in numbers.items() if number > 0}

    async def _list(self, query: str, limit: int) -> list[RunInfo]:
        """Return the last run of each workflow id, but no run from before the tree's."""
        found: dict[str, RunInfo] = {}
        async for info in list_runs(self._client, query, limit):
            if info.started_at >= self._since:
                found.setdefault(info.workflow_id, info)
        return sorted(found.values(), key=_by_id)


def _by_id(info: RunInfo) -> list[tuple[int, str]]:
    """Return a key that puts `writer-2` before `writer-10`: those that start at once are listed in any order."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in _NUMBER.split(info.workflow_id)]


def plan_from_history(info: RunInfo, plan: Plan, children: Iterable[ChildRun]) -> PlanStatus:
    """Return how a plan stands, from the child runs of its `PlanWorkflow`; for when no worker answers."""
    prefix = f"{info.workflow_id}/plan-1/"
    last: dict[str, ChildRun] = {}
    attempts: Counter[str] = Counter()
    for child in children:
        if child.workflow_id.startswith(prefix):
            name = child.workflow_id.removeprefix(prefix).partition(".")[0]
            last[name] = child
            attempts[name] += 1
    is_over = info.closed_at is not None
    states: dict[str, TaskState] = {task.id: _state(last.get(task.id), is_over=is_over) for task in plan.tasks}
    tasks = [
        TaskResult(
            id=task.id,
            agent=_agent(last.get(task.id)) or task.agent,
            state=states[task.id],
            attempts=attempts[task.id],
            workflow_id=last[task.id].workflow_id if task.id in last else "",
            waits_for=_waits_for(states, task.needs) if states[task.id] == "waiting" else (),
        )
        for task in plan.tasks
    ]
    return PlanStatus(number=1, title=plan.title, tasks=tuple(tasks))


def _agent(child: ChildRun | None) -> str | None:
    return None if child is None else child.agent


def _state(child: ChildRun | None, *, is_over: bool) -> TaskState:
    if child is None:
        return "skipped" if is_over else "waiting"
    return _STATES.get(child.status, "failed")


def _waits_for(states: Mapping[str, TaskState], needs: Iterable[str]) -> tuple[str, ...]:
    return tuple(need for need in needs if states.get(need) in ("waiting", "running"))
