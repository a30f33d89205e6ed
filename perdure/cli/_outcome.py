"""Printing what a run gave."""

import json
import sys
from typing import Any

import click

from perdure.cli._context import say
from perdure.cli._format import clean, cost
from perdure.cli._render import print_items, print_json
from perdure.contracts.map import MapOutcome, MapResult
from perdure.contracts.plan import PlanResult
from perdure.contracts.run import RunResult


def print_result(result: Any, output: str) -> None:
    """Print a run's result: its output alone as text, everything as JSON."""
    if isinstance(result, MapResult):
        print_outcomes(result, output)
        return
    if output != "text":
        print_json(result, output)
        return
    if isinstance(result, PlanResult):
        print_outputs(result)
        return
    if isinstance(result, RunResult):
        if result.limit:
            say(f"Note: the agent finished with what it had, at its limit {result.limit}.")
        result = result.output
    print_value(result)


def print_outcomes(result: MapResult, output: str) -> None:
    """Print every outcome: outputs alone as text, failures on stderr; everything as JSON."""
    if output == "json":
        print_json(result, output)
    elif output == "jsonl":
        print_items(result.outcomes, output)
    else:
        for outcome in result.outcomes:
            _print_text(outcome)
    used = result.usage
    spent = f" · {used.total_tokens:,} tokens · {cost(used.cost_usd)}"
    say(f"{result.total - result.failed:,} done · {result.failed:,} failed{spent}")


def _print_text(outcome: MapOutcome) -> None:
    if outcome.failure is None:
        print_value(outcome.output)
    else:
        say(f"{outcome.failure.type}: {outcome.failure.message}")


def print_outputs(result: PlanResult) -> None:
    """Print the answer of a plan, or its outputs by task as JSON, and on stderr what there is to say of tasks."""
    print_value(result.answer if result.answered_by else result.outputs)
    if result.answered_by and result.answer is None:
        say(f"The answer is long: `perdure result {result.answered_by}` prints it.")
    for task in result.tasks:
        if task.failure is not None:
            say(clean(f"Task {task.id!r} failed: {task.failure.type}: {task.failure.message}"))
        elif task.is_output_apart:
            say(f"The output of task {task.id!r} is long: `perdure result {task.workflow_id}` prints it.")
        elif task.state != "done":
            say(f"Task {task.id!r}: {task.state}.")


def print_value(value: Any) -> None:
    """Print text as it is, and other values as JSON."""
    text = value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False, default=str)
    click.echo(clean(text) if sys.stdout.isatty() else text)
