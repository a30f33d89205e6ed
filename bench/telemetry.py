"""Part `telemetry`: what a turn costs more where it is traced, and where it is not.

PERDURE_BENCH_BASELINE=FOLDER names the source tree of another version, such as one from before there were traces;
without it a second worker that doesn't trace stands in, which shows what the measurement itself is worth.
"""

import os
from pathlib import Path

from bench.report import Report, print_table, say
from bench.stack import HERE, Stack
from bench.turns import Contender, Samples, agent_start, interleave, middle_of, model_name, ratio_of

_ROUNDS = {5: 5, 20: 5}
_QUICK = {20: 3}
_ON_TARGET = 1.08
_OFF_TARGET = 1.01


async def measure_telemetry(stack: Stack, *, is_quick: bool) -> Report:
    """Measure, print, and return the figures."""
    rounds = _QUICK if is_quick else _ROUNDS
    report = Report("telemetry")
    models = [model_name(turns) for turns in rounds]
    baseline = os.environ.get("PERDURE_BENCH_BASELINE")
    root = Path(baseline) if baseline else HERE
    before = await stack.start_worker("perdure", "before", models, root=root)
    off = await stack.start_worker("perdure", "off", models)
    env = {"OTEL_EXPORTER_OTLP_ENDPOINT": stack.base_url, "OTEL_METRICS_EXPORTER": "none"}
    on = await stack.start_worker("perdure", "on", models, env=env)
    rows: list[list[str]] = []
    ratios: dict[str, list[float]] = {"on": [], "off": []}
    for turns, count in rounds.items():
        contenders = [
            Contender("before", agent_start(stack, "before", model_name(turns)), [before]),
            Contender("off", agent_start(stack, "off", model_name(turns)), [off]),
            Contender("on", agent_start(stack, "on", model_name(turns)), [on]),
        ]
        samples = await interleave(stack, contenders, turns, count)
        rows += _rows(turns, samples)
        ratios["on"].append(ratio_of(samples, "on", "off"))
        ratios["off"].append(ratio_of(samples, "off", "before"))
        say(f"telemetry: T={turns}: on {ratios['on'][-1]:.3f} x off, off {ratios['off'][-1]:.3f} x before")
        report.figures[f"T={turns}"] = {name: vars(middle_of(own)) for name, own in samples.items()}
    for worker in (before, off, on):
        await worker.stop()
    print_table("Time of a turn, traced and not", _HEAD, rows)
    sent = int((await stack.stats())["trace_bytes"])
    report.target(f"the traces arrived: {sent:,} bytes", is_met=sent > 0)
    for name, target, rival in (("on", _ON_TARGET, "off"), ("off", _OFF_TARGET, "before")):
        mean = sum(ratios[name]) / len(ratios[name])
        report.target(f"{name}: {mean:.3f} x {rival} (at most {target})", is_met=mean <= target)
    report.print_targets()
    return report


_HEAD = ("", "T", "ms/turn", "x before", "x off", "worker CPU", "server CPU", "history/turn")


def _rows(turns: int, samples: Samples) -> list[list[str]]:
    rows: list[list[str]] = []
    for name, own in samples.items():
        middle = middle_of(own)
        ratios = [f"{ratio_of(samples, name, rival):.3f}" for rival in ("before", "off")]
        cpu = [f"{middle.worker_cpu_ms:.1f} ms", f"{middle.server_cpu_ms:.1f} ms"]
        rows.append([name, str(turns), f"{middle.ms:.1f}", *ratios, *cpu, f"{middle.history_bytes:,.0f} B"])
    return rows
