"""Part `map`: an agent over many items, against bare parents of as many children, each with an empty activity.

The model answers at once, in the worker. Each side has a worker of its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from statistics import median
from typing import Any

from bench.crowds import Took, Work, attempt, bare, figures_of, judge_history, largest_parent, take
from bench.report import Report, print_table, say
from bench.stack import Child, Stack
from perdure.contracts.map import MapResult

_QUEUE = "map"
_ROUNDS = 2
_WINDOW = 50
_MIN_RATIO = 0.7
_SECONDS_AN_ITEM = 0.2
"""What takes longer is given up: several times what it takes on two cores."""


@dataclass
class _Rounds:
    """Of one size; neighbours in time have the same index."""

    bare: list[Took] = field(default_factory=list[Took])
    map: list[Took] = field(default_factory=list[Took])
    rss_bytes: int = 0


async def measure_map(stack: Stack, *, is_quick: bool) -> Report:
    """Measure both, taking turns."""
    report = Report("map")
    floor = await stack.start_worker("floor", "floor")
    perdure = await stack.start_worker("perdure", _QUEUE)
    await _map(stack, ["warm up"])("bench-map-warm-up", timedelta(minutes=1))
    sizes: Sequence[tuple[int, int]] = [(100, 1)] if is_quick else [(500, _ROUNDS), (10_000, 1)]
    for count, rounds in sizes:
        await attempt(report, f"{count} items", _measure(stack, report, floor, perdure, count, rounds))
    report.print_targets()
    return report


async def _measure(stack: Stack, report: Report, floor: Child, perdure: Child, count: int, rounds: int) -> None:
    deadline = timedelta(seconds=60 + count * _SECONDS_AN_ITEM)
    items = [f"item {number}" for number in range(count)]
    needs: list[list[int]] = [[] for _ in items]
    found = _Rounds()
    for _ in range(rounds):
        children = bare(stack, needs, model="", at_once=_WINDOW)
        found.bare.append(await take(stack, floor, children, deadline=deadline))
        say(f"bare: {count} children in {found.bare[-1].seconds:.1f} s")
        found.map.append(await take(stack, perdure, _map(stack, items, report), deadline=deadline))
        say(f"map: {count} items in {found.map[-1].seconds:.1f} s")
    found.rss_bytes = perdure.rss_bytes()
    _print(report, count, found)


def _map(stack: Stack, items: list[str], report: Report | None = None) -> Work:
    client = stack.client(_QUEUE)

    async def work(workflow_id: str, deadline: timedelta) -> None:
        await client.start_map("echo", items, max_parallel=_WINDOW, id=workflow_id)
        result: Any = await client.result(workflow_id, timeout=deadline)
        assert isinstance(result, MapResult)
        outputs = [each.output for each in result.outcomes]
        assert outputs == [f"done: {item}" for item in items], "outputs are missing, or not in order"
        if report is not None:
            judge_history(report, f"{len(items)} items", await largest_parent(client, workflow_id))

    return work


def _print(report: Report, count: int, found: _Rounds) -> None:
    pairs = list(zip(found.bare, found.map, strict=True))
    ratio = median(bare.seconds / ours.seconds for bare, ours in pairs)
    report.target(
        f"{count} items: {ratio:.2f} x the throughput of bare children (at least {_MIN_RATIO})",
        is_met=ratio >= _MIN_RATIO,
    )
    report.figures[str(count)] = {
        "items": count,
        "ratio": ratio,
        "bare": figures_of(found.bare, count),
        "map": figures_of(found.map, count),
        "rss_bytes": found.rss_bytes,
    }
    rows = [
        [
            str(number),
            *(f"{count / each.seconds:.1f}" for each in pair),
            f"{pair[0].seconds / pair[1].seconds:.2f}",
            *(f"{1000 * each.worker_cpu / count:.1f} ms" for each in pair),
            *(f"{1000 * each.server_cpu / count:.1f} ms" for each in pair),
        ]
        for number, pair in enumerate(pairs, 1)
    ]
    print_table(f"{count} items, {_WINDOW} at once", _HEAD, rows)
    print(f"  memory of perdure's worker: {found.rss_bytes / 2**20:.0f} MiB")


_HEAD = (
    "round",
    "bare/s",
    "map/s",
    "ratio",
    "worker CPU: bare",
    "map, an item",
    "server CPU: bare",
    "map, an item",
)
