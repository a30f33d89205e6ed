"""Many runs under one parent: what they took, and how large the parents' histories became."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import uuid4

from temporalio.client import WorkflowFailureError
from temporalio.service import RPCError

from bench.report import Report, say
from bench.stack import Child, Stack
from perdure.client import PerdureClient
from perdure.errors import PerdureError

MAX_EVENTS = 10_000
MAX_BYTES = 10_000_000
_BARE_CHILDREN = 2_500
"""Of one bare parent: with many more its history would have over 51,200 events, and the server would end it."""


@dataclass(frozen=True)
class Took:
    """What something took."""

    seconds: float
    worker_cpu: float
    """Seconds of CPU."""
    server_cpu: float


@dataclass
class History:
    """The largest of some."""

    events: int = 0
    size: int = 0


Work = Callable[[str, timedelta], Awaitable[None]]
"""Runs a workflow of that id to its end, and checks what came; raises when it takes longer than that."""


async def take(stack: Stack, worker: Child, work: Work, *, deadline: timedelta) -> Took:
    """Do some work; what is not over in time is terminated."""
    workflow_id = f"bench-{uuid4().hex[:12]}"
    worker_cpu, server_cpu = worker.cpu_seconds(), stack.server_cpu_seconds()
    start = time.perf_counter()
    try:
        await work(workflow_id, deadline)
    except BaseException:
        await _terminate(stack, workflow_id)
        raise
    return Took(
        seconds=time.perf_counter() - start,
        worker_cpu=worker.cpu_seconds() - worker_cpu,
        server_cpu=stack.server_cpu_seconds() - server_cpu,
    )


async def _terminate(stack: Stack, workflow_id: str) -> None:
    try:
        await stack.temporal.get_workflow_handle(workflow_id).terminate("the measurement gave up")
    except RPCError as error:
        say(f"{workflow_id}: {error}")


async def attempt(report: Report, title: str, part: Awaitable[None]) -> None:
    """Measure a part; one that fails, or takes too long, is a target missed, and the others go on."""
    try:
        await part
    except (PerdureError, WorkflowFailureError, RPCError, TimeoutError, AssertionError) as error:
        report.target(f"{title}: {type(error).__name__}: {error}", is_met=False)


def bare(stack: Stack, needs: Sequence[Sequence[int]], *, model: str, at_once: int) -> Work:
    """Return what runs bare children; more than fit into one history belong to several parents in turn."""

    async def work(workflow_id: str, deadline: timedelta) -> None:
        for start in range(0, len(needs), _BARE_CHILDREN):
            share = [list(each) for each in needs[start : start + _BARE_CHILDREN]]
            # Each has an id of its own, so that a terminated one is known by the first.
            await stack.temporal.execute_workflow(
                "BareParent",
                args=[share, model, at_once],
                id=workflow_id if start == 0 else f"{workflow_id}-{start}",
                task_queue="floor",
                execution_timeout=deadline,
            )

    return work


async def largest_parent(client: PerdureClient, workflow_id: str) -> History:
    """Return the largest history of a run that is over and of the nodes below it."""
    query = f"RootWorkflowId = '{workflow_id}' AND WorkflowType != 'AgentWorkflow'"
    await _until_listed(client, query)
    root = (await client.show(workflow_id)).info
    largest = History(root.history_events, root.history_bytes)
    async for info in client.list(query=query, limit=1000):
        largest.events = max(largest.events, info.history_events)
        largest.size = max(largest.size, info.history_bytes)
    return largest


async def _until_listed(client: PerdureClient, query: str) -> None:
    """Wait until the server's list has the end of every parent: it comes a little later than the end."""
    for _ in range(100):
        known = [info.status async for info in client.list(query=query, limit=1000)]
        if known and "running" not in known:
            return
        await asyncio.sleep(0.1)


def judge_history(report: Report, title: str, largest: History) -> None:
    """Note whether the largest history is small enough; none at all was not found."""
    report.target(
        f"{title}: largest parent {largest.events} events, {largest.size / 1e6:.1f} MB "
        f"(at most {MAX_EVENTS}, {MAX_BYTES / 1e6:.0f} MB)",
        is_met=0 < largest.events <= MAX_EVENTS and largest.size <= MAX_BYTES,
    )


def figures_of(took: Sequence[Took], count: int) -> dict[str, Any]:
    """Return figures for `--json`: of each round, and for one of `count` runs."""
    return {
        "seconds": [each.seconds for each in took],
        "worker_cpu_ms": [1000 * each.worker_cpu / count for each in took],
        "server_cpu_ms": [1000 * each.server_cpu / count for each in took],
    }
