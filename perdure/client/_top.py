"""What goes on right now: open runs, rates, spend, Task Queues and workers. Client side.

Each look costs the server the same few questions, however many runs there are: some counts, two pages of runs, and
two descriptions for each Task Queue. Workers are asked where the runs that are shown stand, if any are up.
"""

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError
from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import CountWorkflowExecutionsRequest, DescribeTaskQueueRequest
from temporalio.client import Client, WorkflowHandle, WorkflowQueryFailedError, WorkflowQueryRejectedError
from temporalio.service import RPCError

from perdure._task_queues import ACTIVITY_TASKS, WORKFLOW_TASKS, pollers
from perdure.client._runs import RunInfo, count_by_status, list_runs
from perdure.contracts.names import AGENT_WORKFLOW, STATUS_QUERY
from perdure.contracts.run import RunStatus

_AT_ONCE = 8
_PATIENCE = timedelta(seconds=1)
_MOST_QUEUES = 12
_MOST_CLOSED = 200
_HOUR = timedelta(hours=1)
_KINDS = {"workflow": WORKFLOW_TASKS, "activity": ACTIVITY_TASKS}


class TopRun(BaseModel):
    """An open run."""

    model_config = ConfigDict(frozen=True)

    info: RunInfo
    activity: str = ""
    """What it does or waits for, in words; empty where no worker told."""
    turns: int | None = None
    tokens: int | None = None
    cost_usd: Decimal | None = None
    """Here and above: as a worker tells, else as of the last change of the run's state; None where not known."""


class QueueLoad(BaseModel):
    """Tasks of one kind on a Task Queue."""

    model_config = ConfigDict(frozen=True)

    task_queue: str
    kind: str
    """`workflow` or `activity`."""
    backlog: int = 0
    """Tasks that wait, about."""
    oldest_seconds: float = 0
    added_per_second: float = 0
    taken_per_second: float = 0
    workers: tuple[str, ...] = ()
    """Who polls it."""


class Top(BaseModel):
    """What goes on."""

    model_config = ConfigDict(frozen=True)

    at: datetime
    open: int
    """Runs that are open, those below others too."""
    started_per_minute: int
    closed_per_minute: dict[str, int]
    """In the last minute, by status."""
    spent_usd_last_hour: Decimal
    """Of agents' runs that closed in the last hour and whose cost is known."""
    is_spent_partial: bool = False
    """More than 200 of them closed: it is the cost of the latest 200."""
    runs: tuple[TopRun, ...]
    """The latest open ones, as many as were asked for."""
    queues: tuple[QueueLoad, ...]


async def look(client: Client, *, task_queues: Iterable[str], limit: int, query: str) -> Top:
    """Look once.

    Args:
        client: Of Temporal.
        task_queues: Those to tell of beside the ones of the runs.
        limit: Runs to show.
        query: What these must fulfil, in Temporal's words; everything when empty.

    Raises:
        InvalidInputError: The server can't use the query. Not retryable.
    """
    now = datetime.now(UTC)
    minute = _stamp(now - timedelta(minutes=1))
    chosen = f"ExecutionStatus = 'Running'{f' AND ({query})' if query else ''}"
    infos = [info async for info in list_runs(client, chosen, limit)]
    queues = [*dict.fromkeys((*task_queues, *(info.task_queue for info in infos)))][:_MOST_QUEUES]
    loads = await asyncio.gather(*(_load(client, queue, kind) for queue in queues for kind in _KINDS))
    polled = {load.task_queue for load in loads if load.kind == "workflow" and load.workers}
    gate = asyncio.Semaphore(_AT_ONCE)
    runs, opened, started, closed, (spent, is_partial) = await asyncio.gather(
        asyncio.gather(*(_run(client, info, gate, is_polled=info.task_queue in polled) for info in infos)),
        _count(client, "ExecutionStatus = 'Running'"),
        _count(client, f"StartTime >= '{minute}'"),
        count_by_status(client, f"CloseTime >= '{minute}' AND ExecutionStatus != 'ContinuedAsNew'"),
        _spent(client, now - _HOUR),
    )
    return Top(
        at=now,
        open=opened,
        started_per_minute=started,
        closed_per_minute={status: number for status, number in closed.items()},
        spent_usd_last_hour=spent,
        is_spent_partial=is_partial,
        runs=tuple(runs),
        queues=tuple(load for load in loads if load.workers or load.backlog or load.kind == "workflow"),
    )


async def _run(client: Client, info: RunInfo, gate: asyncio.Semaphore, *, is_polled: bool) -> TopRun:
    """Ask an agent's run where it stands; what is listed of it, when nobody answers at once."""
    cost = None if info.cost_usd is None else Decimal(str(info.cost_usd))
    listed = TopRun(info=info, turns=info.turns, tokens=info.tokens, cost_usd=cost)
    if info.workflow != AGENT_WORKFLOW or not is_polled:
        return listed
    handle: WorkflowHandle[Any, Any] = client.get_workflow_handle(info.workflow_id, run_id=info.run_id)
    async with gate:
        with suppress(RPCError, WorkflowQueryFailedError, WorkflowQueryRejectedError, ValidationError):
            status: RunStatus = await handle.query(STATUS_QUERY, result_type=RunStatus, rpc_timeout=_PATIENCE)
            usage = status.counters.usage
            return TopRun(
                info=info.model_copy(update={"state": status.state}),
                activity=status.activity,
                turns=status.counters.turns,
                tokens=usage.total_tokens,
                cost_usd=usage.cost_usd,
            )
    return listed


async def _load(client: Client, task_queue: str, kind: str) -> QueueLoad:
    number: TaskQueueType.ValueType = _KINDS[kind]
    described = await client.workflow_service.describe_task_queue(
        DescribeTaskQueueRequest(
            namespace=client.namespace,
            task_queue=TaskQueue(name=task_queue),
            task_queue_type=number,
            report_stats=True,
        ),
        retry=True,
    )
    stats = described.stats
    return QueueLoad(
        task_queue=task_queue,
        kind=kind,
        backlog=stats.approximate_backlog_count,
        oldest_seconds=stats.approximate_backlog_age.ToTimedelta().total_seconds(),
        added_per_second=round(stats.tasks_add_rate, 2),
        taken_per_second=round(stats.tasks_dispatch_rate, 2),
        workers=tuple(sorted(await pollers(client, task_queue, number))),
    )


async def _spent(client: Client, since: datetime) -> tuple[Decimal, bool]:
    """Return what runs that closed since then have cost, and whether there were more than are added up."""
    query = f"WorkflowType = '{AGENT_WORKFLOW}' AND CloseTime >= '{_stamp(since)}'"
    query += " AND ExecutionStatus != 'ContinuedAsNew'"
    costs = [info.cost_usd async for info in list_runs(client, query, _MOST_CLOSED)]
    known = (Decimal(str(cost)) for cost in costs if cost is not None)
    return sum(known, Decimal(0)), len(costs) >= _MOST_CLOSED


async def _count(client: Client, query: str) -> int:
    request = CountWorkflowExecutionsRequest(namespace=client.namespace, query=query)
    return (await client.workflow_service.count_workflow_executions(request, retry=True)).count


def _stamp(at: datetime) -> str:
    return at.isoformat()
