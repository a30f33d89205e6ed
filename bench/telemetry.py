"""Part `telemetry`: what a turn costs more where it is traced, and where it is not.

Three workers of the same code take turns: one that traces, one that doesn't, and one without telemetry's calls
(bench/untold.py). An older version in place of the last would differ by all that was added since. The figure is
the median of the rounds' ratios, with its standard error: where that is too large to tell, no target is judged.
"""

from statistics import median
from typing import Final, NamedTuple

from bench.medians import error_of, judge_ratio, told
from bench.report import Report, print_table, say
from bench.stack import Stack
from bench.turns import Contender, Samples, agent_start, interleave, middle_of, model_name, ratio_of


class _Shape(NamedTuple):
    turns: int
    is_local: bool = False

    @property
    def model(self) -> str:
        return model_name(self.turns, local=self.is_local)

    def __str__(self) -> str:
        return f"T={self.turns}{', local tools' if self.is_local else ''}"


class _Target(NamedTuple):
    name: str
    rival: str
    at_most: float


_ROUNDS: Final = {_Shape(5): 24, _Shape(20): 24, _Shape(20, is_local=True): 24}
_QUICK: Final = {_Shape(20): 3, _Shape(20, is_local=True): 3}
_TARGETS: Final = (_Target("on", "off", 1.08), _Target("off", "none", 1.01))


async def measure_telemetry(stack: Stack, *, is_quick: bool) -> Report:
    """Measure, print, and return the figures."""
    rounds = _QUICK if is_quick else _ROUNDS
    report = Report("telemetry")
    models = [shape.model for shape in rounds]
    env = {"OTEL_EXPORTER_OTLP_ENDPOINT": stack.base_url, "OTEL_METRICS_EXPORTER": "none"}
    workers = {
        "none": await stack.start_worker("perdure", "none", models, has_telemetry=False),
        "off": await stack.start_worker("perdure", "off", models),
        "on": await stack.start_worker("perdure", "on", models, env=env),
    }
    rows: list[list[str]] = []
    ratios: dict[_Target, list[float]] = {target: [] for target in _TARGETS}
    for shape, count in rounds.items():
        contenders = [
            Contender(name, agent_start(stack, name, shape.model), [worker]) for name, worker in workers.items()
        ]
        samples = await interleave(stack, contenders, shape.turns, count)
        rows += _rows(shape, samples)
        for target, found in ratios.items():
            pairs = zip(samples[target.name], samples[target.rival], strict=True)
            found += [sample.ms / other.ms for sample, other in pairs]
        report.figures[str(shape)] = {name: vars(middle_of(own)) for name, own in samples.items()}
        say(f"telemetry: {shape}: {', '.join(_text(target, found) for target, found in ratios.items())}, so far")
    for worker in workers.values():
        await worker.stop()
    print_table("Time of a turn: without telemetry's calls (none), not traced (off), traced (on)", _HEAD, rows)
    sent = int((await stack.stats())["trace_bytes"])
    report.target(f"the traces arrived: {sent:,} bytes", is_met=sent > 0)
    for target, found in ratios.items():
        _judge(report, target, found)
    report.print_targets()
    return report


def _judge(report: Report, target: _Target, found: list[float]) -> None:
    report.figures[f"{target.name} to {target.rival}"] = {
        "ratio": median(found),
        "standard_error": error_of(found),
    }
    judge_ratio(report, _text(target, found), found, at_most=target.at_most)


def _text(target: _Target, found: list[float]) -> str:
    return f"{target.name}: {told(found)} x {target.rival}"


_HEAD = ("", "T", "ms/turn", "x none", "x off", "worker CPU", "server CPU", "history/turn")


def _rows(shape: _Shape, samples: Samples) -> list[list[str]]:
    rows: list[list[str]] = []
    for name, own in samples.items():
        middle = middle_of(own)
        ratios = [f"{ratio_of(samples, name, rival):.3f}" for rival in ("none", "off")]
        cpu = [f"{middle.worker_cpu_ms:.1f} ms", f"{middle.server_cpu_ms:.1f} ms"]
        label = f"{name}, local tools" if shape.is_local else name
        rows.append([label, str(shape.turns), f"{middle.ms:.1f}", *ratios, *cpu, f"{middle.history_bytes:,.0f} B"])
    return rows
