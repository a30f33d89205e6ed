"""`python -m bench [PART] [--quick] [--json FILE]`: measure one part, or all; `--help` lists them.

Exits with 1 if a target was missed.
"""

import argparse
import asyncio
import json
import platform
import sys
from collections.abc import Awaitable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import psutil

from bench.context import measure_context
from bench.fairness import measure_fairness
from bench.flood import measure_flood
from bench.histories import measure_history
from bench.limiter import measure_limiter
from bench.limits import measure_limits
from bench.looking import measure_look
from bench.mapping import measure_map
from bench.memory import measure_memory
from bench.money import measure_money
from bench.planning import measure_plan
from bench.report import Report, say
from bench.stack import Stack, open_stack
from bench.telemetry import measure_telemetry
from bench.turns import measure_turns
from bench.waiting import measure_waiting


class _Part(Protocol):
    def __call__(self, stack: Stack, /, *, is_quick: bool) -> Awaitable[Report]: ...


_PARTS: dict[str, _Part] = {
    "history": measure_history,
    "turns": measure_turns,
    "memory": measure_memory,
    "map": measure_map,
    "plan": measure_plan,
    "limiter": measure_limiter,
    "fairness": measure_fairness,
    "money": measure_money,
    "limits": measure_limits,
    "flood": measure_flood,
    "context": measure_context,
    "waiting": measure_waiting,
    "telemetry": measure_telemetry,
    "look": measure_look,
}


async def _measure(parts: Sequence[str], settings: Mapping[str, Any], *, is_quick: bool) -> list[Report]:
    reports: list[Report] = []
    for name in parts:
        async with open_stack(settings) as stack:
            say(f"{name}: Temporal {stack.server.version} at {stack.server.address}")
            reports.append(await _PARTS[name](stack, is_quick=is_quick))
    return reports


def _machine() -> dict[str, object]:
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": psutil.cpu_count(),
        "load": psutil.getloadavg(),
    }


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="bench", description="Measure perdure against bare Temporal.")
    parser.add_argument("part", nargs="?", default="all", choices=[*_PARTS, "all"])
    parser.add_argument("--quick", action="store_true", help="smaller numbers: does it work, roughly how fast")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="of perdure's workers; JSON"
    )
    given = parser.parse_args(arguments)
    parts = list(_PARTS) if given.part == "all" else [given.part]
    settings = {name: json.loads(value) for name, _, value in (each.partition("=") for each in given.set)}
    reports = asyncio.run(_measure(parts, settings, is_quick=given.quick))
    if given.json is not None:
        figures = {"machine": _machine(), **{report.name: report.as_json() for report in reports}}
        given.json.write_text(json.dumps(figures, indent=2) + "\n")
    return 0 if all(report.is_met for report in reports) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
