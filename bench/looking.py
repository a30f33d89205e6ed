"""Part `look`: how long it takes to look back at a run, from the command line, when no worker is up.

A run of 1,000 turns with a tool call each, over several runs of a chain; a map over 500 items, whose children are
the few nodes that have them; and a plan of 500 tasks, whose 500 children are its own.
"""

import asyncio
import os
import sys
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Final, NamedTuple

from bench.planning import Shape
from bench.report import Report, print_table, say
from bench.stack import HERE, Stack
from bench.turns import model_name
from perdure.client import PerdureClient
from perdure.contracts.limits import Limits
from perdure.contracts.names import PLAN_WORKFLOW
from perdure.contracts.plan import PlanRunInput

_QUEUE: Final = "look"
_TIME = timedelta(minutes=10)
_MOST_SECONDS: Final = 3.0
_ROUNDS: Final = 3
_TO_PAGE: Final = ("--out", "-")
_COMMANDS: Final[Sequence[Sequence[str]]] = (("trace",), ("report", *_TO_PAGE), ("transcript",), ("show",))
_ALL: Final[Sequence[Sequence[str]]] = (("trace", "--all"), ("report", "--all", *_TO_PAGE))


class _Runs(NamedTuple):
    """Ids of what is looked at."""

    long: str
    nodes: str
    wide: str


async def measure_look(stack: Stack, *, is_quick: bool) -> Report:
    """Make the runs, stop the worker, and look at them."""
    report = Report("look")
    turns, items = (100, 50) if is_quick else (1000, 500)
    model = model_name(turns, size=200)
    worker = await stack.start_worker("perdure", _QUEUE, [model])
    runs = _Runs(f"look-{turns}-turns", f"look-map-of-{items}", f"look-{items}-children")
    say(f"look: a run of {turns} turns, a map over {items} items, a plan of {items} tasks")
    await _make(stack.client(_QUEUE), runs, model, items)
    await worker.stop()
    rows: list[list[str]] = []
    commands = [(command, run) for command in _COMMANDS for run in runs]
    commands += [(command, run) for command in _ALL for run in runs[1:]]
    for command, run in commands:
        name = " ".join(each for each in command if each not in _TO_PAGE)
        found = [await _look(stack, *command, run) for _ in range(_ROUNDS)]
        seconds, size = min(each[0] for each in found), found[0][1]
        rows.append([f"perdure {name} {run}", f"{seconds:.2f}", f"{size / 1000:,.0f}"])
        report.figures[f"{name} {run}"] = {"seconds": seconds, "bytes": size}
        if run == runs.long and name != "show":
            text = f"{name} of {turns} turns in {seconds:.2f} s (< {_MOST_SECONDS:g})"
            report.target(text, is_met=seconds < _MOST_SECONDS)
    print_table("Looking back at closed runs, without a worker; start of the process included", _HEAD, rows)
    report.print_targets()
    return report


_HEAD = ("", "seconds", "kB printed")


async def _make(client: PerdureClient, runs: _Runs, model: str, items: int) -> None:
    await client.start_agent(model, "go", id=runs.long, limits=Limits(max_turns=2000))
    await client.start_map("echo", [f"item {number}" for number in range(items)], id=runs.nodes)
    needs: list[list[int]] = [[] for _ in range(items)]
    plan = Shape("alone", needs).plan()
    tasks = tuple(task.model_copy(update={"agent": "echo"}) for task in plan.tasks)
    request = PlanRunInput(plan=plan.model_copy(update={"tasks": tasks}))
    await client.start_workflow(PLAN_WORKFLOW, [request], id=runs.wide)
    for workflow_id in runs:
        await client.result(workflow_id, timeout=_TIME)


async def _look(stack: Stack, *arguments: str) -> tuple[float, int]:
    """Return how long a command takes, and how many bytes it prints."""
    environment = {
        key: value for key, value in os.environ.items() if not key.startswith(("TEMPORAL_", "PERDURE_"))
    }
    environment |= {"TEMPORAL_ADDRESS": stack.server.address, "PYTHONPATH": str(HERE)}
    begun = time.monotonic()
    command = [sys.executable, "-m", "perdure", *arguments]
    process = await asyncio.create_subprocess_exec(
        *command, env=environment, cwd=stack.folder, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    printed, told = await process.communicate()
    if process.returncode != 0:
        raise RuntimeError(f"perdure {' '.join(arguments)} failed: {told.decode()}")
    return time.monotonic() - begun, len(printed)
