"""Part `fairness`: single runs of one tenant beside a backlog of another's calls of 1 s, with 20 slots.

The backlog waits behind calls that the model holds until all of it is there: starting thousands of runs keeps the
server busy, which is another matter.
"""

import asyncio
import time
from datetime import timedelta
from statistics import median, quantiles

from temporalio.api.enums.v1 import EventType

from bench.report import Report, print_table, say
from bench.stack import Stack
from perdure.client import PerdureClient
from perdure.client._providers import queue_state

_MODEL = "bench-T0-D1000"
_HELD = f"{_MODEL}-H"
_SLOTS = 20
_MOST = 3.0
_TIME = timedelta(minutes=10)
_PER_MAP = 2_000
_STAGES = {
    "wait for a workflow task": EventType.EVENT_TYPE_WORKFLOW_TASK_STARTED,
    "its work": EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED,
    "wait for a slot": EventType.EVENT_TYPE_ACTIVITY_TASK_STARTED,
    "call": EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED,
    "end": EventType.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED,
}


async def measure_fairness(stack: Stack, *, is_quick: bool) -> Report:
    """Measure idle first, then under the backlog."""
    report = Report("fairness")
    backlog, tries = (400, 5) if is_quick else (5_000, 20)
    await stack.start_worker("perdure", "fairness", [_MODEL, _HELD], max_concurrent_activities=_SLOTS)
    client = stack.client("fairness")
    await _single(client)  # the first pays for connections and caches
    idle = [await _single(client) for _ in range(5)]
    maps = [
        await client.start_map(_HELD, ["go"] * min(_PER_MAP, backlog), max_parallel=backlog, tenant="large")
        for _ in range(0, backlog, _PER_MAP)
    ]
    await _until_waiting(client, backlog - _SLOTS)
    await stack.post("/release")
    await asyncio.sleep(3)
    loaded = [await _single(client) for _ in range(tries)]
    left = (await queue_state(client.temporal, client.task_queue)).backlog
    for each in maps:
        await client.terminate(each.workflow_id, reason="the benchmark is over")
    _judge(report, idle, loaded, left)
    report.print_targets()
    return report


def _judge(report: Report, idle: list[dict[str, float]], loaded: list[dict[str, float]], left: int) -> None:
    totals = [each["total"] for each in loaded]
    p95 = quantiles(totals, n=20, method="inclusive")[-1]
    usual = median(each["total"] for each in idle)
    rows = [
        [
            name,
            *(f"{median(each[name] for each in runs):.2f}" for runs in (idle, loaded)),
            f"{max(each[name] for each in loaded):.2f}",
        ]
        for name in (*_STAGES, "total")
    ]
    print_table("Seconds of a single run", ("stage", "idle", "under the backlog", "longest"), rows)
    report.figures |= {"idle": idle, "loaded": loaded, "p95_seconds": p95, "left": left}
    text = f"p95 of {len(totals)} single runs {p95:.2f} s, {p95 / usual:.1f} x idle (at most {_MOST:g})"
    report.target(text, is_met=p95 <= _MOST * usual)
    report.target(f"{left} calls of the backlog were still waiting", is_met=left > 0)


async def _until_waiting(client: PerdureClient, count: int) -> None:
    async with asyncio.timeout(_TIME.total_seconds()):
        while (waiting := (await queue_state(client.temporal, client.task_queue)).backlog) < count:  # noqa: ASYNC110
            await asyncio.sleep(1)  # the server tells it only when asked
    say(f"{waiting} calls of the large tenant wait")


async def _single(client: PerdureClient) -> dict[str, float]:
    """Run once, and return what it took, and which part of that each stage."""
    began = time.monotonic()
    started = await client.start_agent(_MODEL, "go", tenant="small")
    await client.result(started.workflow_id, timeout=_TIME)
    total = time.monotonic() - began
    history = await client.temporal.get_workflow_handle(started.workflow_id).fetch_history()
    found = {"total": total}
    before = history.events[0].event_time.ToDatetime()
    for name, kind in _STAGES.items():
        at = next(event.event_time.ToDatetime() for event in history.events if event.event_type == kind)
        found[name], before = (at - before).total_seconds(), at
    return found
