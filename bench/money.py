"""Part `money`: trees of agents over one limit, against a vendor that bills at random and a worker that is killed.

What the vendor wrote down must never be more than the limit; and of a limit that is a multiple of what all calls
at once can take at most, most can be used.
"""

import asyncio
import random
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import psutil

from bench.money_worker import INPUT_USD, OUTPUT_TOKENS, OUTPUT_USD
from bench.report import Report, print_table, say
from bench.stack import Child, Stack, start_child
from perdure import Limits
from perdure.client import PerdureClient
from perdure.errors import LimitExceeded

_TIME = timedelta(minutes=30)
_WORST_USD = Decimal(2_500 * INPUT_USD + OUTPUT_TOKENS * OUTPUT_USD) / 1_000_000
"""About what the first call of a member is reserved at: frame, instructions, one tool, the input; its reply."""
_LEAST = {20: 0.9, 2: 0.6}


@dataclass(frozen=True)
class _Plan:
    trees: int
    children: int
    factors: tuple[int, ...]
    """Of the trees in which most of the limit is to be used: limits in sums of worst cases."""
    kills: int


FULL = _Plan(trees=20, children=50, factors=(2, 20), kills=8)
QUICK = _Plan(trees=3, children=10, factors=(2,), kills=2)


async def measure_money(stack: Stack, *, is_quick: bool) -> Report:
    """Run the trees, and compare bills with limits."""
    plan, report = QUICK if is_quick else FULL, Report("money")
    rows = [await _never_over(stack, plan, report)]
    rows += [await _usable(stack, plan, report, factor) for factor in plan.factors]
    print_table("Money", ["trees", "children", "limit", "billed", "share"], rows)
    report.print_targets()
    return report


async def _never_over(stack: Stack, plan: _Plan, report: Report) -> list[str]:
    """Run many trees at once, with faults, while the worker is killed time and again."""
    chance, bills = random.Random(1), stack.folder / "bills"
    limits = {
        f"tree{n}": _WORST_USD * plan.children * Decimal(str(chance.choice([0.1, 0.5, 1, 2])))
        for n in range(plan.trees)
    }
    worker = await _worker(stack, "money-faults", bills, faults=0.3)
    running = asyncio.gather(*(_run(stack, "money-faults", tree, plan, limits[tree]) for tree in limits))
    kills = 0
    while not running.done() and kills < plan.kills:
        await asyncio.wait([running], timeout=chance.uniform(2, 8))
        if not running.done():
            psutil.Process(worker.pid).kill()
            kills += 1
            say(f"money: killed the worker, {sum(map(len, _billed(bills).values()))} bills so far")
            worker = await _worker(stack, "money-faults", bills, faults=0.3)
    ends = await running
    await worker.stop()
    billed = {tree: sum(each) for tree, each in _billed(bills).items()}
    over = [tree for tree in limits if billed.get(tree, Decimal(0)) > limits[tree]]
    shares = sorted(float(billed.get(tree, Decimal(0)) / limits[tree]) for tree in limits)
    report.figures["never_over"] = {"over": over, "kills": kills, "shares": shares, "ends": sorted(ends)}
    text = (
        f"{plan.trees} trees of {plan.children} children, worker killed {kills} times: {len(over)} over the limit"
    )
    report.target(text, is_met=not over and kills > 0)
    spread = f"{shares[0]:.0%} to {shares[-1]:.0%}"
    return [str(plan.trees), str(plan.children), "0.1 to 2 x worst", f"with {kills} kills", spread]


async def _usable(stack: Stack, plan: _Plan, report: Report, factor: int) -> list[str]:
    """Run a tree without faults until nothing can be had any more."""
    bills, queue = stack.folder / f"bills-{factor}", f"money-{factor}"
    worker = await _worker(stack, queue, bills, faults=0)
    limit = _WORST_USD * plan.children * factor
    end = await _run(stack, queue, "tree", plan, limit)
    await worker.stop()
    billed = sum(_billed(bills)["tree"], Decimal(0))
    share, least = float(billed / limit), _LEAST[factor]
    report.figures[f"usable_{factor}"] = {"share": share, "end": end}
    report.target(
        f"of {factor} x the worst cases {share:.1%} was used (≥ {least:.0%})", is_met=least <= share <= 1
    )
    return ["1", str(plan.children), f"{factor} x worst, ${limit:.2f}", f"${billed:.2f}", f"{share:.1%}"]


async def _worker(stack: Stack, queue: str, bills: Path, *, faults: float) -> Child:
    address = stack.server.address
    child = await start_child("bench.money_worker", address, queue, str(bills), str(faults), cwd=stack.folder)
    stack.exits.push_async_callback(child.stop)
    return child


async def _run(stack: Stack, queue: str, tree: str, plan: _Plan, limit: Decimal) -> str:
    """Run a tree to its end, and say what that was."""
    client = PerdureClient(stack.temporal, task_queue=queue)
    limits = Limits(max_cost_usd=limit)
    run = await client.start_agent("boss", f"{tree} {plan.children}", id=f"{queue}-{tree}", limits=limits)
    with suppress(LimitExceeded):
        await client.result(run.workflow_id, timeout=_TIME)
        return "completed"
    return "at its limit"


def _billed(bills: Path) -> dict[str, Sequence[Decimal]]:
    """Return the bills of each tree, in dollars."""
    found: dict[str, list[Decimal]] = {}
    for line in bills.read_text().splitlines() if bills.exists() else []:
        tree, micro = line.split()
        found.setdefault(tree, []).append(Decimal(micro) / 1_000_000)
    return dict(found)
