"""Part `look`: how long it takes to look back at a run, from the command line, when no worker is up.

A run of 1,000 turns with a tool call each, over several runs of a chain, and a map of 500 child runs.
"""

import asyncio
import os
import sys
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from bench.report import Report, print_table, say
from bench.stack import HERE, Stack
from bench.turns import model_name
from perdure.contracts.limits import Limits

_QUEUE: Final = "look"
_TIME = timedelta(minutes=10)
_MOST_SECONDS: Final = 3.0
_ROUNDS: Final = 3
_COMMANDS: Final[dict[str, Sequence[str]]] = {
    "trace": (),
    "report": ("--out", "-"),
    "transcript": (),
    "show": (),
}


async def measure_look(stack: Stack, *, is_quick: bool) -> Report:
    """Make the runs, stop the worker, and look at them."""
    report = Report("look")
    turns, items = (100, 50) if is_quick else (1000, 500)
    model = model_name(turns, size=200)
    worker = await stack.start_worker("perdure", _QUEUE, [model])
    client = stack.client(_QUEUE)
    long, wide = f"look-{turns}-turns", f"look-{items}-children"
    say(f"look: a run of {turns} turns, and a map over {items} items")
    await client.start_agent(model, "go", id=long, limits=Limits(max_turns=2000))
    await client.start_map("echo", [f"item {number}" for number in range(items)], id=wide)
    for workflow_id in (long, wide):
        await client.result(workflow_id, timeout=_TIME)
    await worker.stop()
    rows: list[list[str]] = []
    for name, options in _COMMANDS.items():
        for workflow_id in (long, wide):
            found = [await _look(stack, name, workflow_id, *options) for _ in range(_ROUNDS)]
            seconds, size = min(each[0] for each in found), found[0][1]
            rows.append([f"perdure {name} {workflow_id}", f"{seconds:.2f}", f"{size / 1000:,.0f}"])
            report.figures[f"{name} {workflow_id}"] = {"seconds": seconds, "bytes": size}
            if workflow_id == long and name != "show":
                text = f"{name} of {turns} turns in {seconds:.2f} s (< {_MOST_SECONDS:g})"
                report.target(text, is_met=seconds < _MOST_SECONDS)
    whole = await _look(stack, "report", wide, "--all", "--out", "-")
    rows.append([f"perdure report {wide} --all", f"{whole[0]:.2f}", f"{whole[1] / 1000:,.0f}"])
    report.figures[f"report --all {wide}"] = {"seconds": whole[0], "bytes": whole[1]}
    print_table("Looking back at closed runs, without a worker; start of the process included", _HEAD, rows)
    report.print_targets()
    return report


_HEAD = ("", "seconds", "kB printed")


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
