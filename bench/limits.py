"""Part `limits`: what a turn takes with a limit of tokens, which reserves and settles each call, and without.

Both take turns on one worker, so that other work on the machine hits both alike; ratios are medians over rounds.
"""

from statistics import median

from bench.report import Report, print_table
from bench.stack import Stack
from bench.turns import Contender, Samples, agent_start, interleave, model_name
from perdure import Limits

_TARGET = 1.03
_ROUNDS = 15
_QUICK_ROUNDS = 3
_LIMITS = Limits(max_total_tokens=1_000_000_000)


async def measure_limits(stack: Stack, *, is_quick: bool) -> Report:
    """Measure, print, and return the figures."""
    report, rows = Report("limits"), list[list[str]]()
    turns = {20: _QUICK_ROUNDS if is_quick else _ROUNDS, 50: _QUICK_ROUNDS if is_quick else _ROUNDS}
    models = [model_name(each, local=local) for each in turns for local in (False, True)]
    worker = await stack.start_worker("perdure", "limits", models)
    for count, rounds in turns.items():
        for is_local in (False, True):
            model = model_name(count, local=is_local)
            contenders = [
                Contender("without", agent_start(stack, "limits", model), [worker]),
                Contender("with", agent_start(stack, "limits", model, limits=_LIMITS), [worker]),
            ]
            samples = await interleave(stack, contenders, count, rounds)
            rows.append(_judge(report, count, samples, tools="local" if is_local else "activities"))
    await worker.stop()
    print_table("A turn with a limit of tokens, over one without", _HEAD, rows)
    report.print_targets()
    return report


_HEAD = ("tools", "T", "without, ms", "with, ms", "time", "worker CPU", "server CPU", "history")


def _judge(report: Report, turns: int, samples: Samples, *, tools: str) -> list[str]:
    pairs = list(zip(samples["without"], samples["with"], strict=True))
    time = median(limited.ms / free.ms for free, limited in pairs)
    worker = median(limited.worker_cpu_ms / free.worker_cpu_ms for free, limited in pairs)
    server = median(limited.server_cpu_ms / free.server_cpu_ms for free, limited in pairs)
    history = median(limited.history_bytes / free.history_bytes for free, limited in pairs)
    ratios = {"time": time, "worker_cpu": worker, "server_cpu": server, "history": history}
    report.figures[f"{tools} T={turns}"] = ratios
    report.target(f"{tools}, T={turns}: time x {time:.3f} (at most {_TARGET})", is_met=time <= _TARGET)
    free, limited = (median(each.ms for each in samples[name]) for name in ("without", "with"))
    return [tools, str(turns), f"{free:.1f}", f"{limited:.1f}", *(f"{each:.3f}" for each in ratios.values())]
