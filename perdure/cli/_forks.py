"""What `fork` is given, and what it prints."""

from collections.abc import Sequence
from typing import Any

import click

from perdure.cli._context import say
from perdure.cli._format import clean, plural
from perdure.cli._input import agent_input, parse_limits, read_input
from perdure.cli._render import print_json
from perdure.client import ForkResult
from perdure.errors import InvalidInputError


def read_fork(
    *,
    turn: int | None,
    message: str | None,
    models: Sequence[str],
    instructions: str | None,
    results: Sequence[str],
    limits: Sequence[str],
    new_id: str | None,
) -> dict[str, Any]:
    """Return the arguments of `PerdureClient.fork`.

    Raises:
        InvalidInputError: Something can't be read, or isn't CALL=TEXT. Not retryable.
    """
    return {
        "turn": turn,
        "message": None if message is None else agent_input(read_input(message)),
        "model": tuple(models),
        "instructions": None if instructions is None else read_input(instructions),
        "tool_results": dict(_result(each) for each in results),
        "limits": parse_limits(limits),
        "id": new_id,
    }


def _result(given: str) -> tuple[str, Any]:
    call, equals, text = given.partition("=")
    if not (call and equals):
        raise InvalidInputError(f"--tool-result {given!r} should be CALL=TEXT or CALL=@FILE.")
    return call.strip(), agent_input(read_input(text))


def print_fork(started: ForkResult, output: str) -> None:
    """Print the workflow id, and on stderr what is copied."""
    changes = f", other {', '.join(started.changes)}" if started.changes else ""
    copied = f"{plural(started.messages, 'message')} up to turn {started.turn}"
    say(clean(f"Fork of {started.source}: {copied}{changes}."))
    if output == "text":
        click.echo(started.workflow_id)
    else:
        print_json(started, output)
