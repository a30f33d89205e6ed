"""Part `plan`: plans of agents, against bare parents whose children have the same needs, and the critical path.

A model of so many milliseconds is the local HTTP server, asked by both; one that answers at once is within the
worker, and a bare child's activity is empty then. Each side has a worker of its own, and they take turns.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from statistics import median
from typing import Any

from bench.crowds import Took, Work, attempt, bare, figures_of, judge_history, largest_parent, take
from bench.report import Report, print_table, say
from bench.stack import Child, Stack
from perdure.client import PerdureClient
from perdure.contracts.names import PLAN_WORKFLOW
from perdure.contracts.plan import Plan, PlanResult, PlanRunInput, Task

_QUEUE = "plan"
_AT_ONCE = 50
_QUICK_MS, _SLOW_MS = 500, 5_000
_MAX_TO_BARE = 1.15
_MAX_TO_PATH = 1.25
_MIN_THROUGHPUT = 0.7
_CHAIN = 5
"""Tasks one after the other, from which the sequential time of a plan is computed."""
_SECONDS_A_TASK = 0.5
"""Beyond its model's: what takes longer is given up: several times what it takes on two cores."""


@dataclass(frozen=True)
class Shape:
    """Who needs whom: each task names tasks before it."""

    name: str
    needs: Sequence[Sequence[int]]

    @property
    def longest_path(self) -> int:
        """Tasks on the longest chain."""
        depth: list[int] = []
        for needs in self.needs:
            depth.append(1 + max((depth[need] for need in needs), default=0))
        return max(depth)

    def plan(self) -> Plan:
        """Return it with the agent's name left open; each input refers to what the task needs."""
        return Plan(tasks=tuple(_task(number, needs) for number, needs in enumerate(self.needs)))


def _task(number: int, needs: Sequence[int]) -> Task:
    results = " ".join(f"{{{{t{need}}}}}" for need in needs)
    return Task(id=f"t{number}", agent="", needs=tuple(f"t{n}" for n in needs), input=f"Task {number}. {results}")


def irregular(count: int, *, most_needs: int = 3, reach: int = 12) -> Shape:
    """Return a plan without any order to it, the same each time: a task needs a few of those before."""
    rng = random.Random(count)
    needs = [
        sorted(rng.sample(range(max(0, number - reach), number), min(number, rng.randint(0, most_needs))))
        for number in range(count)
    ]
    return Shape(f"{count} tasks, irregular", needs)


def wide(width: int) -> Shape:
    """Return tasks that need nothing, and one that needs them all."""
    return Shape(f"width {width}, then one", [*([] for _ in range(width)), list(range(width))])


@dataclass(frozen=True)
class _Sides:
    stack: Stack
    floor: Child
    perdure: Child
    report: Report

    async def warm_up(self) -> None:
        shape = wide(4)
        for model in ("", _model(_QUICK_MS)):
            for work in self.works(shape, model):
                await work(f"bench-warm-up-{model}-{id(work)}", timedelta(minutes=1))

    def works(self, shape: Shape, model: str) -> tuple[Work, Work]:
        """Return what runs the shape on bare children, and as a plan; with no model, one that answers at once."""
        return (
            bare(self.stack, shape.needs, model=model, at_once=_AT_ONCE),
            _plan(self.stack.client(_QUEUE), shape, model or "echo", None),
        )


async def measure_plan(stack: Stack, *, is_quick: bool) -> Report:
    """Measure plans with slow models, and one of many tasks."""
    report = Report("plan")
    models = [_model(_QUICK_MS), _model(_SLOW_MS)]
    floor = await stack.start_worker("floor", "floor")
    sides = _Sides(stack, floor, await stack.start_worker("perdure", _QUEUE, models), report)
    await attempt(report, "warm-up", sides.warm_up())
    await attempt(report, "slow models", _measure_paths(sides, is_quick=is_quick))
    count, rounds = (100, 1) if is_quick else (500, 3)
    await attempt(report, f"{count} tasks", _measure_many(sides, irregular(count, reach=100), rounds))
    report.print_targets()
    return report


async def _measure_paths(sides: _Sides, *, is_quick: bool) -> None:
    shapes = [irregular(10), wide(10)] if is_quick else [irregular(30), wide(50)]
    chain = await _chain_seconds(sides)
    rows: list[list[str]] = []
    for shape in shapes:
        rows.append(await _against_bare(sides, shape, chain, rounds=2 if is_quick else 5))
        rows.append(await _against_path(sides, shape, chain))
    head = ["plan", "model", "longest path", "bare", "perdure", "x bare", "x path", "in sequence"]
    print_table("Plans with slow models; in sequence is computed from a chain of five", head, rows)


async def _chain_seconds(sides: _Sides) -> float:
    """Return what a task takes beyond its model, when one follows the other."""
    shape = Shape("chain", [[], *([number] for number in range(_CHAIN - 1))])
    _, plan = sides.works(shape, _model(_QUICK_MS))
    took = await take(sides.stack, sides.perdure, plan, deadline=_deadline(shape, _QUICK_MS))
    beyond = took.seconds / _CHAIN - _QUICK_MS / 1000
    sides.report.figures["chain"] = {"tasks": _CHAIN, "seconds": took.seconds, "beyond_model_seconds": beyond}
    return beyond


async def _against_bare(sides: _Sides, shape: Shape, chain: float, *, rounds: int) -> list[str]:
    pairs = await _take_turns(sides, shape, _QUICK_MS, rounds)
    ratio = median(ours.seconds / floor.seconds for floor, ours in pairs)
    sides.report.target(
        f"{shape.name}, model of {_QUICK_MS} ms: {ratio:.2f} x bare children (at most {_MAX_TO_BARE})",
        is_met=ratio <= _MAX_TO_BARE,
    )
    return _row(sides.report, shape, _QUICK_MS, pairs, chain)


async def _against_path(sides: _Sides, shape: Shape, chain: float) -> list[str]:
    pairs = await _take_turns(sides, shape, _SLOW_MS, 1)
    path = shape.longest_path * _SLOW_MS / 1000
    ratio = pairs[0][1].seconds / path
    sides.report.target(
        f"{shape.name}, model of {_SLOW_MS} ms: {ratio:.2f} x its longest path (at most {_MAX_TO_PATH})",
        is_met=ratio <= _MAX_TO_PATH,
    )
    return _row(sides.report, shape, _SLOW_MS, pairs, chain)


async def _take_turns(sides: _Sides, shape: Shape, ms: int, rounds: int) -> list[tuple[Took, Took]]:
    """Return what bare children took and what the plan took; neighbours in time are pairs."""
    deadline = _deadline(shape, ms)
    on_floor, on_perdure = sides.works(shape, _model(ms) if ms else "")
    pairs: list[tuple[Took, Took]] = []
    for _ in range(rounds):
        floor = await take(sides.stack, sides.floor, on_floor, deadline=deadline)
        ours = await take(sides.stack, sides.perdure, on_perdure, deadline=deadline)
        say(f"{shape.name}, model of {ms} ms: bare {floor.seconds:.1f} s, plan {ours.seconds:.1f} s")
        pairs.append((floor, ours))
    return pairs


def _row(report: Report, shape: Shape, ms: int, pairs: Sequence[tuple[Took, Took]], chain: float) -> list[str]:
    count = len(shape.needs)
    floor, ours = (median(each.seconds for each in side) for side in zip(*pairs, strict=True))
    path = shape.longest_path * ms / 1000
    sequential = count * (ms / 1000 + chain)
    report.figures[f"{shape.name}, {ms} ms"] = {
        "longest_path_seconds": path,
        "sequential_seconds": sequential,
        "bare": figures_of([pair[0] for pair in pairs], count),
        "plan": figures_of([pair[1] for pair in pairs], count),
    }
    times = [f"{path:.1f} s", f"{floor:.2f} s", f"{ours:.2f} s"]
    return [shape.name, f"{ms} ms", *times, f"{ours / floor:.2f}", f"{ours / path:.2f}", f"{sequential:.0f} s"]


async def _measure_many(sides: _Sides, shape: Shape, rounds: int) -> None:
    count = len(shape.needs)
    pairs = await _take_turns(sides, shape, 0, rounds)
    ratio = median(floor.seconds / ours.seconds for floor, ours in pairs)
    sides.report.target(
        f"{shape.name}: {ratio:.2f} x the throughput of bare children (at least {_MIN_THROUGHPUT})",
        is_met=ratio >= _MIN_THROUGHPUT,
    )
    await _plan(sides.stack.client(_QUEUE), shape, "echo", sides.report)("bench-last", _deadline(shape, 0))
    rss = sides.perdure.rss_bytes()
    floor, ours = (list(side) for side in zip(*pairs, strict=True))
    known = {"bare": figures_of(floor, count), "plan": figures_of(ours, count), "ratio": ratio, "rss_bytes": rss}
    sides.report.figures[shape.name] = known
    rows = [_cost_row("bare children", floor, count), _cost_row("plan", ours, count)]
    print_table(f"{shape.name}, a model that answers at once", _COST_HEAD, rows)
    print(f"  memory of perdure's worker: {rss / 2**20:.0f} MiB")


_COST_HEAD = ("", "tasks/s", "worker CPU, a task", "server CPU, a task")


def _cost_row(name: str, took: Sequence[Took], count: int) -> list[str]:
    worker = median(each.worker_cpu for each in took)
    server = median(each.server_cpu for each in took)
    speed = count / median(each.seconds for each in took)
    return [name, f"{speed:.1f}", f"{1000 * worker / count:.1f} ms", f"{1000 * server / count:.1f} ms"]


def _plan(client: PerdureClient, shape: Shape, agent: str, report: Report | None) -> Work:
    """Return what runs a shape as a plan; with a report, its history is judged as well."""
    tasks = tuple(task.model_copy(update={"agent": agent}) for task in shape.plan().tasks)
    request = PlanRunInput(plan=Plan(tasks=tasks, max_parallel=_AT_ONCE))

    async def work(workflow_id: str, deadline: timedelta) -> None:
        await client.start_workflow(PLAN_WORKFLOW, [request], id=workflow_id)
        result: Any = await client.result(workflow_id, timeout=deadline)
        assert isinstance(result, PlanResult)
        states = [each.state for each in result.tasks]
        assert states == ["done"] * len(tasks), f"tasks are not done: {states}"
        if report is not None:
            judge_history(report, shape.name, await largest_parent(client, workflow_id))

    return work


def _model(ms: int) -> str:
    return f"bench-D{ms}"


def _deadline(shape: Shape, ms: int) -> timedelta:
    return timedelta(seconds=30 + len(shape.needs) * _SECONDS_A_TASK + 2 * shape.longest_path * ms / 1000)
