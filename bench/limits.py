"""Part `limits`: what a turn takes with limits, which reserve and settle each call, and without.

All take turns on one worker, so that other work on the machine hits them alike. The figure for a limit is the
median of the ratios of all rounds, with its standard error: where that is too large to tell, no target is judged.
Beside it is what the workflow's own code takes more, as the CPU of replaying a run.
"""

from datetime import timedelta
from decimal import Decimal
from statistics import median

from temporalio.client import WorkflowHistory

from bench.medians import error_of, judge_ratio, told
from bench.replaying import replay_cpu_ms
from bench.report import Report, print_table
from bench.stack import Stack
from bench.turns import Contender, Samples, agent_start, interleave, model_name, ratio_of
from perdure import Limits

_TARGET = 1.03
_ROUNDS = {5: 10, 20: 14, 50: 14, 200: 3}
_QUICK_ROUNDS = {20: 3, 50: 3}
_REPLAYED = 50
_PRICE = {"input_usd": 1, "output_usd": 4}
_LIMITS = {
    "tokens": Limits(max_total_tokens=1_000_000_000),
    "dollars": Limits(max_cost_usd=Decimal(1_000_000)),
    "calls, time": Limits(max_model_calls=100_000, max_tool_calls=100_000, wall_clock=timedelta(days=1)),
}
_FREE = "without"


async def measure_limits(stack: Stack, *, is_quick: bool) -> Report:
    """Measure, print, and return the figures."""
    report, rows = Report("limits"), list[list[str]]()
    turns = _QUICK_ROUNDS if is_quick else _ROUNDS
    models = [model_name(each, local=local) for each in {*turns, _REPLAYED} for local in (False, True)]
    prices = {f"fake:{model}": _PRICE for model in models}
    worker = await stack.start_worker("perdure", "limits", models, prices=prices)
    ratios: dict[str, list[float]] = {name: [] for name in _LIMITS}
    for count, rounds in turns.items():
        for is_local in (False, True):
            model = model_name(count, local=is_local)
            contenders = [Contender(_FREE, agent_start(stack, "limits", model), [worker])]
            for name, limits in _LIMITS.items():
                contenders.append(Contender(name, agent_start(stack, "limits", model, limits=limits), [worker]))
            samples = await interleave(stack, contenders, count, rounds)
            for name, found in ratios.items():
                found += [held.ms / free.ms for held, free in zip(samples[name], samples[_FREE], strict=True)]
                rows.append(_row(report, count, samples, tools="local" if is_local else "activities", limit=name))
    print_table("A turn with a limit, over one without", _HEAD, rows)
    await _replay(stack, report)
    await worker.stop()
    for name, found in ratios.items():
        report.figures[name] = {"ratio": median(found), "standard_error": error_of(found)}
        judge_ratio(report, f"{name}: {told(found)} x a turn without", found, at_most=_TARGET)
    report.print_targets()
    return report


async def _replay(stack: Stack, report: Report) -> None:
    """Print what the workflow's own code takes more of a turn with local tools."""
    histories: dict[str, WorkflowHistory] = {}
    for name, limits in {_FREE: None, **_LIMITS}.items():
        workflow_id = f"bench-replayed-{name}"
        await agent_start(stack, "limits", model_name(_REPLAYED, local=True), limits=limits)(workflow_id)
        histories[name] = await stack.temporal.get_workflow_handle(workflow_id).fetch_history()
    found = await replay_cpu_ms(histories)
    free, rows = found.pop(_FREE) / _REPLAYED, list[list[str]]()
    for name, cpu in found.items():
        report.figures[f"{name}, replayed"] = {"ms": cpu / _REPLAYED, "more_ms": cpu / _REPLAYED - free}
        rows.append([name, f"{free:.2f}", f"{cpu / _REPLAYED:.2f}", f"{cpu / _REPLAYED - free:+.2f}"])
    print_table("CPU of replaying a turn, in ms", ("limit", "without", "with", "more"), rows)


_HEAD = ("limit", "tools", "T", "without, ms", "with, ms", "time", "worker CPU", "server CPU", "history")


def _row(report: Report, turns: int, samples: Samples, *, tools: str, limit: str) -> list[str]:
    pairs = list(zip(samples[_FREE], samples[limit], strict=True))
    worker = median(limited.worker_cpu_ms / free.worker_cpu_ms for free, limited in pairs)
    server = median(limited.server_cpu_ms / free.server_cpu_ms for free, limited in pairs)
    history = median(limited.history_bytes / free.history_bytes for free, limited in pairs)
    time = ratio_of(samples, limit, _FREE)
    ratios = {"time": time, "worker_cpu": worker, "server_cpu": server, "history": history}
    report.figures[f"{limit}, {tools} T={turns}"] = ratios
    free, limited = (median(each.ms for each in samples[name]) for name in (_FREE, limit))
    return [
        limit,
        tools,
        str(turns),
        f"{free:.1f}",
        f"{limited:.1f}",
        *(f"{each:.3f}" for each in ratios.values()),
    ]
