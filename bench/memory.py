"""Part `memory`: what an open run costs while it waits for its model, a thousand of them in one worker.

The fake model holds every call. Beside it a worker that caches a tenth of the runs' workflows, and the naive loop.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any
from uuid import uuid4

from temporalio.client import WorkflowHandle

from bench.report import Report, print_table, say
from bench.stack import Child, Stack
from bench.texts import page_text
from bench.turns import Start, agent_start, model_name
from bench.worker import make_app
from perdure.client import PerdureClient

_TARGET_KIB = 80
_STARTS_AT_ONCE = 50
_START_SECONDS = 300
_FINISH_SECONDS = 300
_SETTLE_SECONDS = 5
_CACHED_PART = 10
"""Of a worker that keeps one run in so many in memory, and replays the others when their reply comes."""
_WATCH_SECONDS = 15
_WARM_UP = model_name(1)
_HELD = "bench-H"
_TEXT = page_text(0, 200)
"""Short: what is measured is the run, not what is said in it."""


@dataclass(frozen=True)
class _Waiting:
    """What a worker and the server took while all runs waited."""

    runs: int
    held: int
    """Runs that waited at the same time."""
    kib_per_run: float
    """Means nothing unless all waited."""
    idle_mib: float
    worker_cpu: float
    """Of one core."""
    server_cpu: float
    completed: int
    calls: int
    start_seconds: float
    finish_seconds: float


async def measure_memory(stack: Stack, *, is_quick: bool) -> Report:
    """Measure, print, and return the figures."""
    runs = 100 if is_quick else 1000
    report = Report("memory")
    calls = {"max_concurrent_activities": runs + 100}
    sizes: dict[str, Any] = {**calls, "max_cached_workflows": runs + 100}
    rows: list[list[str]] = []
    waiting = await _measure_perdure(stack, runs, sizes)
    rows.append(_row("perdure, all cached", waiting))
    report.figures["perdure"] = vars(waiting)
    _judge(report, waiting)
    usual = await _measure_perdure(stack, runs, calls)
    rows.append(_row("perdure, as many cached as usual", usual))
    report.figures["perdure_as_usual"] = vars(usual)
    few = await _measure_perdure(stack, runs, {**sizes, "max_cached_workflows": runs // _CACHED_PART})
    rows.append(_row(f"perdure, {runs // _CACHED_PART} cached", few))
    report.figures["perdure_few_cached"] = vars(few)
    floor = await stack.start_worker("floor", "floor", **sizes)
    await _naive_run(stack, _WARM_UP)(f"bench-{uuid4().hex[:12]}")
    naive = await _hold(stack, floor, _naive_run(stack, _HELD), runs)
    await floor.stop()
    rows.append(_row("naive loop, all cached", naive))
    report.figures["naive"] = vars(naive)
    print_table("Runs that wait for their model", _HEAD, rows)
    report.print_targets()
    return report


async def _measure_perdure(stack: Stack, runs: int, sizes: Mapping[str, Any]) -> _Waiting:
    worker = await stack.start_worker("perdure", "memory", [_WARM_UP, _HELD], **sizes)
    await agent_start(stack, "memory", _WARM_UP)(f"bench-{uuid4().hex[:12]}")
    waiting = await _hold(stack, worker, _perdure_run(stack), runs)
    await worker.stop()
    return waiting


def _judge(report: Report, waiting: _Waiting) -> None:
    kib = waiting.kib_per_run
    report.target(
        f"{kib:.0f} KiB for each open run (at most {_TARGET_KIB})",
        is_met=waiting.held == waiting.runs and kib <= _TARGET_KIB,
    )
    report.target(
        f"{waiting.completed} of {waiting.runs} complete once the model answers",
        is_met=waiting.completed == waiting.runs,
    )
    report.target(f"{waiting.held} of {waiting.runs} wait at the same time", is_met=waiting.held == waiting.runs)
    report.target(f"{waiting.calls} model calls for {waiting.runs} runs", is_met=waiting.calls == waiting.runs)


_HEAD = (
    "",
    "waiting",
    "KiB/run",
    "idle worker",
    "worker CPU",
    "server CPU",
    "all waiting after",
    "done after",
    "calls",
)


def _row(name: str, waiting: _Waiting) -> list[str]:
    return [
        name,
        f"{waiting.held}/{waiting.runs}",
        f"{waiting.kib_per_run:.1f}" if waiting.held == waiting.runs else "-",
        f"{waiting.idle_mib:.0f} MiB",
        f"{waiting.worker_cpu:.0%}",
        f"{waiting.server_cpu:.0%}",
        f"{waiting.start_seconds:.0f} s",
        f"{waiting.finish_seconds:.0f} s",
        str(waiting.calls),
    ]


async def _hold(stack: Stack, worker: Child, start: Start, runs: int) -> _Waiting:
    """Start runs that wait, look at the worker, and let them go on."""
    await stack.post("/hold")
    calls = await stack.calls(_HELD)
    await asyncio.sleep(_SETTLE_SECONDS)
    idle = worker.rss_bytes()
    began = time.monotonic()
    tasks = [asyncio.create_task(start(f"bench-{uuid4().hex[:12]}")) for _ in range(runs)]
    held = await _wait_held(stack, runs)
    start_seconds = time.monotonic() - began
    await asyncio.sleep(_SETTLE_SECONDS)
    worker_cpu, server_cpu, rss = await _watch(stack, worker)
    released = time.monotonic()
    await stack.post("/release")
    completed = await _count_completed(tasks)
    return _Waiting(
        runs=runs,
        held=held,
        kib_per_run=(rss - idle) / max(held, 1) / 1024,
        idle_mib=idle / 1024 / 1024,
        worker_cpu=worker_cpu,
        server_cpu=server_cpu,
        completed=completed,
        calls=await stack.calls(_HELD) - calls,
        start_seconds=start_seconds,
        finish_seconds=time.monotonic() - released,
    )


async def _count_completed(tasks: Sequence["asyncio.Task[None]"]) -> int:
    done, open_ = await asyncio.wait(tasks, timeout=_FINISH_SECONDS)
    for task in open_:
        task.cancel()
    failures = [task.exception() for task in done]
    for failure in {repr(each) for each in failures if each is not None}:
        say(f"memory: {failure}")
    return failures.count(None)


async def _wait_held(stack: Stack, runs: int) -> int:
    """Wait until the fake holds a call of each run, or for as long as is bearable; return how many it holds."""
    deadline = time.monotonic() + _START_SECONDS
    said = 0.0
    while (held := int((await stack.stats())["held"])) < runs and time.monotonic() < deadline:
        if time.monotonic() > said + 5:
            said = time.monotonic()
            say(f"memory: {held} of {runs} runs wait for their model")
        await asyncio.sleep(0.2)
    return held


async def _watch(stack: Stack, worker: Child) -> tuple[float, float, float]:
    """Return the CPU use of worker and server as parts of a core, and the worker's median memory."""
    began, worker_cpu, server_cpu = time.monotonic(), worker.cpu_seconds(), stack.server_cpu_seconds()
    memory: list[int] = []
    while time.monotonic() < began + _WATCH_SECONDS:
        memory.append(worker.rss_bytes())
        await asyncio.sleep(0.5)
    took = time.monotonic() - began
    return (
        (worker.cpu_seconds() - worker_cpu) / took,
        (stack.server_cpu_seconds() - server_cpu) / took,
        median(memory),
    )


def _perdure_run(stack: Stack) -> Start:
    # The agents are known to whoever starts them, as on the command line.
    client = PerdureClient(stack.temporal, task_queue="memory", registry=make_app([_HELD]).registry)
    gate = asyncio.Semaphore(_STARTS_AT_ONCE)

    async def start(workflow_id: str) -> None:
        async with gate:
            await client.start_agent(_HELD, _TEXT, id=workflow_id)
        await client.result(workflow_id)

    return start


def _naive_run(stack: Stack, model: str) -> Start:
    gate = asyncio.Semaphore(_STARTS_AT_ONCE)

    async def start(workflow_id: str) -> None:
        async with gate:
            handle: WorkflowHandle[Any, Any] = await stack.temporal.start_workflow(
                "NaiveWorkflow", args=[model, _TEXT], id=workflow_id, task_queue="floor"
            )
        await handle.result()

    return start
