"""Part `fairness`: single runs of one tenant beside a backlog of another's calls of 1 s, with 20 slots."""

import asyncio
import time
from datetime import timedelta
from statistics import median, quantiles

from bench.report import Report, say
from bench.stack import Stack
from perdure.client import PerdureClient

_MODEL = "bench-T0-D1000"
_SLOTS = 20
_MOST = 3.0
_TIME = timedelta(minutes=5)


async def measure_fairness(stack: Stack, *, is_quick: bool) -> Report:
    """Measure idle first, then under the backlog."""
    report = Report("fairness")
    backlog, tries = (400, 5) if is_quick else (5_000, 20)
    await stack.start_worker("perdure", "fairness", [_MODEL], max_concurrent_activities=_SLOTS)
    client = stack.client("fairness")
    idle = median([await _single(client) for _ in range(3)])
    started = await client.start_map(_MODEL, ["go"] * backlog, max_parallel=backlog, tenant="large")
    async with asyncio.timeout(_TIME.total_seconds()):
        # Not before the backlog is there: its starts keep the server busy, which is another matter.
        while (await stack.calls(_MODEL)) < 3 + _SLOTS:  # noqa: ASYNC110 - the fake is another process
            await asyncio.sleep(0.5)
    await asyncio.sleep(backlog / 50)
    say(f"idle {idle:.2f} s; {backlog} runs of the large tenant have begun")
    singles = [await _single(client) for _ in range(tries)]
    await client.terminate(started.workflow_id, reason="the benchmark is over")
    p95 = quantiles(singles, n=20, method="inclusive")[-1]
    done = await stack.calls(_MODEL) - 3 - tries
    report.figures |= {"idle_seconds": idle, "singles_seconds": singles, "p95_seconds": p95, "backlog_done": done}
    text = f"p95 of {tries} single runs {p95:.2f} s, {p95 / idle:.1f} x idle (at most {_MOST:g})"
    report.target(text, is_met=p95 <= _MOST * idle)
    report.target(f"{done} of {backlog} calls of the backlog were done by then", is_met=done < backlog)
    report.print_targets()
    return report


async def _single(client: PerdureClient) -> float:
    began = time.monotonic()
    started = await client.start_agent(_MODEL, "go", tenant="small")
    await client.result(started.workflow_id, timeout=_TIME)
    return time.monotonic() - began
