"""Printing what a run gave."""

import json
import sys
from typing import Any

import click

from perdure.cli._context import say
from perdure.cli._format import clean
from perdure.cli._render import print_json
from perdure.contracts.run import RunResult


def print_result(result: Any, output: str) -> None:
    """Print a run's result: its output alone as text, everything as JSON."""
    if output != "text":
        print_json(result, output)
        return
    if isinstance(result, RunResult):
        if result.limit:
            say(f"Note: the agent finished with what it had, at its limit {result.limit}.")
        result = result.output
    print_value(result)


def print_value(value: Any) -> None:
    """Print text as it is, and other values as JSON."""
    text = value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False, default=str)
    click.echo(clean(text) if sys.stdout.isatty() else text)
