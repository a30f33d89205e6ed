"""Part `turns`: time, CPU and history of a turn, against bare workflows of as many empty activities.

The model is a local HTTP server that answers at once, so that what is left is overhead. Everybody takes turns
(A B C … then … C B A), and ratios are medians over these rounds: other work on the machine hits all alike.
"""

from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any
from uuid import uuid4

from temporalio.api.workflow.v1 import WorkflowExecutionInfo

from bench.medians import told
from bench.report import Report, print_table, say
from bench.stack import Child, Stack
from bench.texts import page_text
from perdure import Limits
from perdure.client._runs import describe

_SIZE = 2000
_TURNS_A_SAMPLE = 40
_TARGET = 1.3
_WARM_UPS = 3

Start = Callable[[str], Coroutine[Any, Any, None]]
"""Starts a run of that id, and returns when it is over."""


@dataclass(frozen=True)
class Contender:
    """One way of doing the same work."""

    name: str
    start: Start
    workers: Sequence[Child]


@dataclass(frozen=True)
class Sample:
    """What a turn took, on average over a few runs one after the other."""

    ms: float
    worker_cpu_ms: float
    server_cpu_ms: float
    history_bytes: float


@dataclass(frozen=True)
class Plan:
    """How much to measure: rounds by number of turns."""

    rounds: Mapping[int, int]
    naive_rounds: int
    variant_rounds: Mapping[int, int]


FULL = Plan({5: 11, 20: 11, 50: 11, 200: 9}, naive_rounds=2, variant_rounds={50: 3, 200: 2})
QUICK = Plan({5: 3, 20: 3, 50: 3}, naive_rounds=1, variant_rounds={20: 2})

Samples = dict[str, list[Sample]]


def model_name(turns: int, *, local: bool = False, size: int = _SIZE) -> str:
    """Return the name of a model, and of its agent, that takes so many turns."""
    return f"bench-T{turns}-S{size}-{'fetch_local' if local else 'fetch'}"


async def measure_turns(stack: Stack, *, is_quick: bool) -> Report:
    """Measure, print, and return the figures."""
    plan = QUICK if is_quick else FULL
    report = Report("turns")
    models = [model_name(turns, local=local) for turns in (1, *plan.rounds) for local in (False, True)]
    perdure = await stack.start_worker("perdure", "turns", models)
    floor = await stack.start_worker("floor", "floor")
    rows: list[list[str]] = []
    for turns, rounds in plan.rounds.items():
        contenders = [
            Contender("bare", _bare(stack, turns, is_local=False), [floor]),
            Contender("bare, local", _bare(stack, turns, is_local=True), [floor]),
            Contender("perdure", agent_start(stack, "turns", model_name(turns)), [perdure]),
            Contender("perdure, local", agent_start(stack, "turns", model_name(turns, local=True)), [perdure]),
            Contender("naive loop", _naive(stack, turns), [floor]),
        ]
        samples = await interleave(stack, contenders, turns, rounds, skip={"naive loop": plan.naive_rounds})
        rows += _rows(turns, samples, rivals=("bare", "bare, local"))
        _judge(report, turns, samples)
        report.figures[f"T={turns}"] = _figures(samples)
    await perdure.stop()
    print_table("Time of a turn (tool results of 2 kB; the model answers at once)", _HEAD, rows)
    await _measure_variants(stack, plan, floor, report)
    report.print_targets()
    await floor.stop()
    return report


async def _measure_variants(stack: Stack, plan: Plan, floor: Child, report: Report) -> None:
    models = [model_name(turns) for turns in (1, *plan.variant_rounds)]
    uncached = await stack.start_worker("perdure", "uncached", models, message_cache_bytes=0)
    pair = [await stack.start_worker("perdure", "pair", models) for _ in range(2)]
    rows: list[list[str]] = []
    for turns, rounds in plan.variant_rounds.items():
        contenders = [
            Contender("bare", _bare(stack, turns, is_local=False), [floor]),
            Contender("no cache", agent_start(stack, "uncached", model_name(turns)), [uncached]),
            Contender("two workers", agent_start(stack, "pair", model_name(turns)), pair),
        ]
        samples = await interleave(stack, contenders, turns, rounds)
        rows += _rows(turns, samples, rivals=("bare",))
        report.figures[f"variants T={turns}"] = _figures(samples)
    for worker in (uncached, *pair):
        await worker.stop()
    print_table("The same with every lookup missing (no cache), and with two workers", _HEAD, rows)
    report.target("runs without a cache, and with two workers, complete", is_met=True)


_HEAD = ("", "T", "ms/turn", "x bare", "x bare, local", "worker CPU", "server CPU", "history/turn")


async def interleave(
    stack: Stack, contenders: Sequence[Contender], turns: int, rounds: int, skip: Mapping[str, int] | None = None
) -> Samples:
    """Let all take turns; those in `skip` only for so many rounds."""
    samples: Samples = {each.name: [] for each in contenders}
    for contender in contenders:
        await _sample(stack, contender, turns, runs=max(1, _WARM_UPS // turns))
    for number in range(rounds):
        say(f"turns: T={turns}, round {number + 1} of {rounds}")
        for contender in _turns(contenders, number):
            if number < (skip or {}).get(contender.name, rounds):
                runs = max(1, _TURNS_A_SAMPLE // turns)
                samples[contender.name].append(await _sample(stack, contender, turns, runs=runs))
    return samples


def _turns(contenders: Sequence[Contender], number: int) -> Sequence[Contender]:
    """Return who comes first in a round: forth and back, and another one from time to time."""
    first = number // 2 % len(contenders)
    order = [*contenders[first:], *contenders[:first]]
    return order if number % 2 == 0 else order[::-1]


async def _sample(stack: Stack, contender: Contender, turns: int, *, runs: int) -> Sample:
    worker_cpu = sum(worker.cpu_seconds() for worker in contender.workers)
    server_cpu = stack.server_cpu_seconds()
    ids = [f"bench-{uuid4().hex[:12]}" for _ in range(runs)]
    for workflow_id in ids:
        await contender.start(workflow_id)
    worker_cpu = sum(worker.cpu_seconds() for worker in contender.workers) - worker_cpu
    server_cpu = stack.server_cpu_seconds() - server_cpu
    infos = [(await describe(stack.temporal, each)).workflow_execution_info for each in ids]
    total = turns * runs
    return Sample(
        ms=sum(map(_duration_ms, infos)) / total,
        worker_cpu_ms=1000 * worker_cpu / total,
        server_cpu_ms=1000 * server_cpu / total,
        history_bytes=sum(info.history_size_bytes for info in infos) / total,
    )


def _duration_ms(info: WorkflowExecutionInfo) -> float:
    return (info.close_time.ToNanoseconds() - info.start_time.ToNanoseconds()) / 1e6


def agent_start(
    stack: Stack, queue: str, agent: str, text: str = page_text(0, _SIZE), *, limits: Limits | None = None
) -> Start:
    """Return what runs an agent to its end."""
    client = stack.client(queue)

    async def start(workflow_id: str) -> None:
        await client.start_agent(agent, text, id=workflow_id, limits=limits)
        result: Any = await client.result(workflow_id)
        if not str(result.output).startswith("Done after"):
            raise RuntimeError(f"{agent} did not do its work: {result}")

    return start


def _bare(stack: Stack, turns: int, *, is_local: bool) -> Start:
    async def start(workflow_id: str) -> None:
        await stack.temporal.execute_workflow(
            "BareWorkflow", args=[turns, is_local], id=workflow_id, task_queue="floor"
        )

    return start


def _naive(stack: Stack, turns: int) -> Start:
    async def start(workflow_id: str) -> None:
        arguments = [model_name(turns), page_text(0, _SIZE)]
        await stack.temporal.execute_workflow("NaiveWorkflow", args=arguments, id=workflow_id, task_queue="floor")

    return start


def ratio_of(samples: Samples, name: str, rival: str) -> float:
    """Return the median of the ratios of each round."""
    return median(_ratios(samples, name, rival))


def _ratios(samples: Samples, name: str, rival: str) -> list[float]:
    return [sample.ms / other.ms for sample, other in zip(samples[name], samples[rival], strict=False)]


def middle_of(samples: Sequence[Sample]) -> Sample:
    return Sample(
        ms=median(each.ms for each in samples),
        worker_cpu_ms=median(each.worker_cpu_ms for each in samples),
        server_cpu_ms=median(each.server_cpu_ms for each in samples),
        history_bytes=median(each.history_bytes for each in samples),
    )


def _rows(turns: int, samples: Samples, rivals: Sequence[str]) -> list[list[str]]:
    rows: list[list[str]] = []
    for name, own in samples.items():
        middle = middle_of(own)
        ratios = [f"{ratio_of(samples, name, rival):.2f}" if rival in rivals else "" for rival in _RIVALS]
        cpu = [f"{middle.worker_cpu_ms:.1f} ms", f"{middle.server_cpu_ms:.1f} ms"]
        rows.append([name, str(turns), f"{middle.ms:.1f}", *ratios, *cpu, f"{middle.history_bytes:,.0f} B"])
    return rows


_RIVALS = ("bare", "bare, local")


def _judge(report: Report, turns: int, samples: Samples) -> None:
    found = _ratios(samples, "perdure", "bare")
    report.target(f"T={turns}: perdure {told(found)} x bare (at most {_TARGET})", is_met=median(found) <= _TARGET)
    found = _ratios(samples, "perdure, local", "bare, local")
    text = f"T={turns}: local tools {told(found)} x bare, local (at most {_TARGET})"
    report.target(text, is_met=median(found) <= _TARGET)
    found = _ratios(samples, "perdure, local", "bare")
    report.target(f"T={turns}: local tools {told(found)} x bare (below 1)", is_met=median(found) < 1)


def _figures(samples: Samples) -> dict[str, Any]:
    return {
        name: {
            **vars(middle_of(own)),
            "ratio_to_bare": ratio_of(samples, name, "bare"),
            "rounds_ms": [each.ms for each in own],
        }
        for name, own in samples.items()
    }
