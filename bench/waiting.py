"""Part `waiting`: what runs cost that wait for a person, two thousand of them on one worker.

Each run has asked its model once, for a call of a tool that needs approval. Then all are approved, by several
people at once, and it is measured how long it takes from a decision to the next call of the model.
"""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from statistics import median
from typing import Any
from uuid import uuid4

from temporalio.client import Client, WorkflowHandle
from temporalio.service import RPCError

from bench.report import Report, print_table, say
from bench.stack import Child, Stack
from bench.worker import make_app
from perdure.client import PerdureClient
from perdure.client._identity import decider
from perdure.client._people import send_decision
from perdure.contracts.names import CALL_MODEL, WAITS_QUERY
from perdure.contracts.waits import DecideRequest, WaitsPage

AGENT = "bench-T1-S200-guarded"
_TARGET_KB = 60
_TARGET_SECONDS = 2.0
_STARTS_AT_ONCE = 50
_DECIDERS = 8
_SETTLE_SECONDS = 10
_START_SECONDS = 600
_FINISH_SECONDS = 600
_ALL_CACHED = "all cached"
_QUERY_TIMEOUT = timedelta(seconds=10)


@dataclass(frozen=True)
class _Waiting:
    """What it took."""

    runs: int
    waiting: int
    kb_per_run: float
    idle_mb: float
    open_activities: int
    worker_cpu: float
    """Of one core, while all waited."""
    completed: int
    start_seconds: float
    approve_seconds: float
    median_seconds: float
    p95_seconds: float
    """From sending the decision to the start of the next model call."""


async def measure_waiting(stack: Stack, *, is_quick: bool) -> Report:
    """Measure, print, and return the figures."""
    runs = 200 if is_quick else 2000
    report = Report("waiting")
    rows: list[list[str]] = []
    for title, settings in (("as it comes", {}), (_ALL_CACHED, {"max_cached_workflows": runs + 100})):
        waiting = await _measure(stack, runs, settings)
        rows.append(_row(title, waiting))
        report.figures[title] = vars(waiting)
        _judge(report, title, waiting)
    print_table("Runs that wait for approval", _HEAD, rows)
    report.print_targets()
    return report


def _judge(report: Report, title: str, waiting: _Waiting) -> None:
    all_wait = waiting.waiting == waiting.runs
    if title != _ALL_CACHED:  # more than a worker keeps unless it is told to: for comparison
        report.target(
            f"{title}: {waiting.kb_per_run:.0f} kB for each of {waiting.waiting} runs (at most {_TARGET_KB})",
            is_met=all_wait and waiting.kb_per_run <= _TARGET_KB,
        )
    report.target(f"{title}: {waiting.open_activities} activities are open", is_met=waiting.open_activities == 0)
    report.target(
        f"{title}: {waiting.completed} of {waiting.runs} complete once they are approved",
        is_met=waiting.completed == waiting.runs,
    )
    report.target(
        f"{title}: from approval to the next model call p95 {waiting.p95_seconds:.2f} s (at most 2)",
        is_met=waiting.p95_seconds <= _TARGET_SECONDS,
    )


_HEAD = (
    "",
    "waiting",
    "kB/run",
    "idle worker",
    "worker CPU",
    "all wait after",
    "all approved in",
    "median",
    "p95",
)


def _row(title: str, waiting: _Waiting) -> list[str]:
    return [
        title,
        f"{waiting.waiting}/{waiting.runs}",
        f"{waiting.kb_per_run:.1f}",
        f"{waiting.idle_mb:.0f} MB",
        f"{waiting.worker_cpu:.1%}",
        f"{waiting.start_seconds:.0f} s",
        f"{waiting.approve_seconds:.0f} s",
        f"{waiting.median_seconds:.2f} s",
        f"{waiting.p95_seconds:.2f} s",
    ]


async def _measure(stack: Stack, runs: int, settings: Mapping[str, Any]) -> _Waiting:
    queue = f"waiting-{uuid4().hex[:6]}"
    worker = await stack.start_worker("perdure", queue, [AGENT], **settings)
    client = PerdureClient(stack.temporal, task_queue=queue, registry=make_app([AGENT]).registry)
    await _warm_up(client)
    await asyncio.sleep(_SETTLE_SECONDS)
    idle = worker.rss_bytes()
    began = time.monotonic()
    ids = await _start(client, runs)
    waiting = await _until_all_wait(client, queue, runs)
    start_seconds = time.monotonic() - began
    rss, cpu = await _watch(worker)
    open_activities = sum([await _open_activities(stack.temporal, each) for each in ids[:: max(runs // 50, 1)]])
    waits = await _read_waits(client.temporal, ids)
    approve_seconds, sent = await _approve_all(client, waits)
    completed = await _completed(client, ids)
    delays = sorted([await _next_call(stack.temporal, each) - sent[each] for each in completed])
    await worker.stop()
    return _Waiting(
        runs=runs,
        waiting=waiting,
        kb_per_run=(rss - idle) / max(waiting, 1) / 1000,
        idle_mb=idle / 1e6,
        open_activities=open_activities,
        worker_cpu=cpu,
        completed=len(completed),
        start_seconds=start_seconds,
        approve_seconds=approve_seconds,
        median_seconds=median(delays) if delays else float("inf"),
        p95_seconds=delays[int(len(delays) * 0.95)] if delays else float("inf"),
    )


async def _warm_up(client: PerdureClient) -> None:
    (workflow_id,) = await _start(client, 1)
    await _until_all_wait(client, client.task_queue, 1)
    await _approve_all(client, await _read_waits(client.temporal, [workflow_id]))
    await client.result(workflow_id)


async def _start(client: PerdureClient, runs: int) -> list[str]:
    gate = asyncio.Semaphore(_STARTS_AT_ONCE)

    async def start(_: int) -> str:
        async with gate:
            return (await client.start_agent(AGENT, "Deploy.", id=f"bench-{uuid4().hex[:12]}")).workflow_id

    return list(await asyncio.gather(*(start(number) for number in range(runs))))


async def _until_all_wait(client: PerdureClient, queue: str, runs: int) -> int:
    """Wait until the server lists so many runs as waiting, or for as long as is bearable."""
    query = f"TaskQueue = '{queue}' AND PerdureState = 'waiting_approval' AND ExecutionStatus = 'Running'"
    deadline, said, found = time.monotonic() + _START_SECONDS, 0.0, 0
    while time.monotonic() < deadline:
        answer = await client.temporal.count_workflows(query)
        found = answer.count
        if found >= runs:
            break
        if time.monotonic() > said + 5:
            said = time.monotonic()
            say(f"waiting: {found} of {runs} runs wait")
        await asyncio.sleep(0.5)
    return found


async def _watch(worker: Child) -> tuple[float, float]:
    """Return the worker's median memory, and its CPU as a part of a core, while all wait."""
    await asyncio.sleep(_SETTLE_SECONDS)
    began, cpu, memory = time.monotonic(), worker.cpu_seconds(), list[int]()
    for _ in range(20):
        memory.append(worker.rss_bytes())
        await asyncio.sleep(0.5)
    return median(memory), (worker.cpu_seconds() - cpu) / (time.monotonic() - began)


async def _open_activities(temporal: Client, workflow_id: str) -> int:
    described = await temporal.get_workflow_handle(workflow_id).describe()
    return len(described.raw_description.pending_activities)


async def _read_waits(temporal: Client, ids: list[str]) -> dict[str, str]:
    """Return the id of what each run waits for, as the inbox asks for it."""
    gate = asyncio.Semaphore(_DECIDERS)

    async def read(workflow_id: str) -> str:
        async with gate:
            handle: WorkflowHandle[Any, Any] = temporal.get_workflow_handle(workflow_id)
            while True:
                try:
                    page = await handle.query(WAITS_QUERY, result_type=WaitsPage, rpc_timeout=_QUERY_TIMEOUT)
                    return page.waits[0].id
                except RPCError as error:
                    say(f"waiting: {workflow_id}: {error}")
                    await asyncio.sleep(0.5)

    return dict(zip(ids, await asyncio.gather(*(read(each) for each in ids)), strict=True))


async def _approve_all(client: PerdureClient, waits: Mapping[str, str]) -> tuple[float, dict[str, float]]:
    """Approve every run, by several people at once; return how long it took, and when each was sent."""
    gate, by, sent = asyncio.Semaphore(_DECIDERS), decider(client.temporal), dict[str, float]()
    began = time.monotonic()

    async def approve(workflow_id: str, wait: str) -> None:
        async with gate:
            request = DecideRequest(wait=wait, verdict="approve", by=by, id=uuid4().hex)
            sent[workflow_id] = time.time()
            await send_decision(client.temporal, workflow_id, request)

    await asyncio.gather(*(approve(*each) for each in waits.items()))
    return time.monotonic() - began, sent


async def _completed(client: PerdureClient, ids: list[str]) -> list[str]:
    async def result(workflow_id: str) -> str:
        await client.result(workflow_id)
        return workflow_id

    tasks = [asyncio.create_task(result(each)) for each in ids]
    done, late = await asyncio.wait(tasks, timeout=_FINISH_SECONDS)
    for task in late:
        task.cancel()
    return [task.result() for task in done if task.exception() is None]


async def _next_call(temporal: Client, workflow_id: str) -> float:
    """Return when the last call of the model started: the one after the decision."""
    calls: dict[int, float] = {}
    async for event in temporal.get_workflow_handle(workflow_id).fetch_history_events():
        scheduled = event.activity_task_scheduled_event_attributes
        if scheduled.activity_type.name == CALL_MODEL:
            calls[event.event_id] = 0.0
        started = event.activity_task_started_event_attributes.scheduled_event_id
        if started in calls:
            calls[started] = event.event_time.ToNanoseconds() / 1e9
    assert len(calls) == 2, "one call before the decision, and one after it"
    return max(calls.values())
