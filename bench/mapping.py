"""Part `map`: `map_agent` over many items, against one bare workflow that starts as many children.

The model answers at once, in the worker; a bare child has one empty activity for an agent's model call.
Each side has a worker of its own, a process that this module is too: `python -m bench.mapping CONFIG_JSON`.
"""

import asyncio
import sys
import time
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from statistics import median
from typing import Any, Literal
from uuid import uuid4

from pydantic import BaseModel
from temporalio import workflow
from temporalio.client import Client
from temporalio.worker import Worker

from bench.fake_llm import end_with_parent
from bench.floors import empty
from bench.report import Report, print_table, say
from bench.stack import Child, Stack, start_child
from perdure import Agent, App
from perdure.client import PerdureClient
from perdure.connection import connect
from perdure.settings import Settings
from perdure.testing import ScriptedModel
from perdure.worker import new_event_loop, run_worker, stop_on_signals

_SECOND = timedelta(seconds=1)
_ROUNDS = 3
_WINDOW = 50
_MIN_RATIO = 0.7
_MAX_EVENTS = 10_000
_MAX_BYTES = 10_000_000


class MapWorkerConfig(BaseModel):
    """What a worker of this part is told."""

    kind: Literal["perdure", "bare"]
    address: str
    queue: str


@workflow.defn(name="BareChild", sandboxed=False)
class BareChild:
    """One empty activity."""

    @workflow.run
    async def run(self, item: str) -> str:
        """Return the item."""
        await workflow.execute_activity(empty, start_to_close_timeout=60 * _SECOND)
        return item


@workflow.defn(name="BareMap", sandboxed=False)
class BareMap:
    """Children in a sliding window, all of them its own."""

    @workflow.run
    async def run(self, items: list[str], window: int) -> int:
        """Return how many there were."""
        left = list(enumerate(items))

        async def work() -> None:
            while left:
                index, item = left.pop(0)
                await workflow.execute_child_workflow(
                    BareChild.run, item, id=f"{workflow.info().workflow_id}/{index}"
                )

        await asyncio.gather(*(work() for _ in range(window)))
        return len(items)


class _Figures(BaseModel):
    """Of one size."""

    items: int
    bare_per_second: list[float] = []
    map_per_second: list[float] = []
    biggest_history_events: int = 0
    biggest_history_bytes: int = 0
    rss_bytes: int = 0

    @property
    def ratio(self) -> float:
        """The median of the ratios of neighbours in time."""
        pairs = zip(self.map_per_second, self.bare_per_second, strict=True)
        return median(ours / bare for ours, bare in pairs)


async def measure_map(stack: Stack, *, is_quick: bool) -> Report:
    """Measure both, taking turns."""
    report = Report("map")
    workers = {kind: await _start(stack, kind) for kind in ("bare", "perdure")}
    sizes: Sequence[tuple[int, int]] = [(100, 1)] if is_quick else [(1_000, _ROUNDS), (10_000, 1)]
    for items, rounds in sizes:
        figures = _Figures(items=items)
        for _ in range(rounds):
            figures.bare_per_second.append(items / await _bare(stack, items))
            figures.map_per_second.append(items / await _map(stack, items, figures))
        figures.rss_bytes = workers["perdure"].rss_bytes()
        report.figures[str(items)] = figures.model_dump()
        _print(report, figures)
    report.print_targets()
    return report


def _print(report: Report, figures: _Figures) -> None:
    report.target(
        f"{figures.items} items: {figures.ratio:.2f} x a bare workflow's throughput (at least {_MIN_RATIO})",
        is_met=figures.ratio >= _MIN_RATIO,
    )
    report.target(
        f"{figures.items} items: biggest parent {figures.biggest_history_events} events, "
        f"{figures.biggest_history_bytes / 1e6:.1f} MB (at most {_MAX_EVENTS}, {_MAX_BYTES / 1e6:.0f} MB)",
        is_met=figures.biggest_history_events <= _MAX_EVENTS and figures.biggest_history_bytes <= _MAX_BYTES,
    )
    rows = [
        [f"{n + 1}", f"{bare:.1f}", f"{ours:.1f}", f"{ours / bare:.2f}"]
        for n, (bare, ours) in enumerate(zip(figures.bare_per_second, figures.map_per_second, strict=True))
    ]
    print_table(f"{figures.items} items, {_WINDOW} at once", ["round", "bare/s", "map/s", "ratio"], rows)
    print(f"  worker's memory: {figures.rss_bytes / 2**20:.0f} MiB")


async def _start(stack: Stack, kind: Literal["perdure", "bare"]) -> Child:
    config = MapWorkerConfig(kind=kind, address=stack.server.address, queue=f"map-{kind}")
    child = await start_child("bench.mapping", config.model_dump_json(), cwd=stack.folder)
    stack.exits.push_async_callback(child.stop)
    return child


async def _bare(stack: Stack, items: int) -> float:
    start = time.perf_counter()
    args = [[f"item {n}" for n in range(items)], _WINDOW]
    handle = await stack.temporal.start_workflow(
        "BareMap", args=args, id=f"bare-{uuid4().hex[:8]}", task_queue="map-bare"
    )
    await handle.result()
    seconds = time.perf_counter() - start
    say(f"bare: {items} items in {seconds:.1f} s")
    return seconds


async def _map(stack: Stack, items: int, figures: _Figures) -> float:
    client = PerdureClient(stack.temporal, task_queue="map-perdure")
    start = time.perf_counter()
    run = await client.start_map("echo", [f"item {n}" for n in range(items)], max_parallel=_WINDOW)
    result: Any = await client.result(run.workflow_id)
    seconds = time.perf_counter() - start
    say(f"map: {items} items in {seconds:.1f} s")
    assert [each.output for each in result.outcomes] == [f"done: item {n}" for n in range(items)]
    async for info in client.list(
        query=f"RootWorkflowId = '{run.workflow_id}' AND WorkflowType != 'AgentWorkflow'"
    ):
        figures.biggest_history_events = max(figures.biggest_history_events, info.history_events)
        figures.biggest_history_bytes = max(figures.biggest_history_bytes, info.history_bytes)
    return seconds


def make_app() -> App:
    model = ScriptedModel(lambda request, messages: f"done: {messages[0].text}", name="echo")
    return App(agents=[Agent("echo", model="echo:x")], providers=[model])


async def _serve(config: MapWorkerConfig) -> None:
    stop = asyncio.Event()
    stop_on_signals(stop)
    settings = Settings.model_validate({"task_queue": config.queue, "project_dir": Path.cwd()})
    client = await connect(address=config.address)
    if config.kind == "perdure":
        await run_worker(make_app(), settings, client, stop=stop, on_ready=_say_ready)
    else:
        await _serve_bare(settings, client, stop)


async def _serve_bare(settings: Settings, client: Client, stop: asyncio.Event) -> None:
    worker = Worker(
        client,
        task_queue=settings.task_queue,
        workflows=[BareMap, BareChild],
        activities=[empty],
        max_cached_workflows=settings.max_cached_workflows,
        max_concurrent_workflow_tasks=settings.max_concurrent_workflow_tasks,
        max_concurrent_activities=settings.max_concurrent_activities,
        sticky_queue_schedule_to_start_timeout=_SECOND,
        max_heartbeat_throttle_interval=_SECOND,
        default_heartbeat_throttle_interval=_SECOND,
    )
    async with worker:
        _say_ready()
        await stop.wait()


def _say_ready() -> None:
    print("ready", flush=True)


if __name__ == "__main__":
    end_with_parent()
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(_serve(MapWorkerConfig.model_validate_json(sys.argv[1])))
