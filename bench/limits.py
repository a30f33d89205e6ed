"""Part `limits`: what a turn takes with limits, which reserve and settle each call, and without.

All take turns on one worker, so that other work on the machine hits them alike; ratios are medians over rounds.
"""

from datetime import timedelta
from decimal import Decimal
from statistics import median

from bench.report import Report, print_table
from bench.stack import Stack
from bench.turns import Contender, Samples, agent_start, interleave, model_name
from perdure import Limits

_TARGET = 1.03
_ROUNDS = {5: 15, 20: 15, 50: 15, 200: 5}
_QUICK_ROUNDS = {20: 3, 50: 3}
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
    models = [model_name(each, local=local) for each in turns for local in (False, True)]
    prices = {f"fake:{model}": _PRICE for model in models}
    worker = await stack.start_worker("perdure", "limits", models, prices=prices)
    for count, rounds in turns.items():
        for is_local in (False, True):
            model = model_name(count, local=is_local)
            contenders = [Contender(_FREE, agent_start(stack, "limits", model), [worker])]
            for name, limits in _LIMITS.items():
                contenders.append(Contender(name, agent_start(stack, "limits", model, limits=limits), [worker]))
            samples = await interleave(stack, contenders, count, rounds)
            tools = "local" if is_local else "activities"
            rows += [_judge(report, count, samples, tools=tools, limit=name) for name in _LIMITS]
    await worker.stop()
    print_table("A turn with a limit, over one without", _HEAD, rows)
    report.print_targets()
    return report


_HEAD = ("limit", "tools", "T", "without, ms", "with, ms", "time", "worker CPU", "server CPU", "history")


def _judge(report: Report, turns: int, samples: Samples, *, tools: str, limit: str) -> list[str]:
    pairs = list(zip(samples[_FREE], samples[limit], strict=True))
    time = median(limited.ms / free.ms for free, limited in pairs)
    worker = median(limited.worker_cpu_ms / free.worker_cpu_ms for free, limited in pairs)
    server = median(limited.server_cpu_ms / free.server_cpu_ms for free, limited in pairs)
    history = median(limited.history_bytes / free.history_bytes for free, limited in pairs)
    ratios = {"time": time, "worker_cpu": worker, "server_cpu": server, "history": history}
    report.figures[f"{limit}, {tools} T={turns}"] = ratios
    is_met = time <= _TARGET
    report.target(f"{limit}, {tools}, T={turns}: time x {time:.3f} (at most {_TARGET})", is_met=is_met)
    free, limited = (median(each.ms for each in samples[name]) for name in (_FREE, limit))
    return [
        limit,
        tools,
        str(turns),
        f"{free:.1f}",
        f"{limited:.1f}",
        *(f"{each:.3f}" for each in ratios.values()),
    ]
