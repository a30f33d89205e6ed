"""Printing how two runs differ."""

import json
from collections.abc import Callable, Sequence
from datetime import timedelta

from rich.console import Console

from perdure.cli._format import clean, cost, duration, one_line, plural
from perdure.cli._messages import MessagePrinter
from perdure.cli._render import console, print_labelled, print_table
from perdure.cli._runs import describe_fork
from perdure.client import Parting, RunDiff, Side, TranscriptEntry
from perdure.contracts.messages import Message
from perdure.contracts.usage import Usage

_ROWS: dict[str, Callable[[Side], str]] = {
    "status": lambda side: side.status.replace("_", " "),
    "agent": lambda side: side.agent or "-",
    "model": lambda side: ", ".join(side.models) or "-",
    "fork of": lambda side: "" if side.forked is None else describe_fork(side.forked),
    "turns": lambda side: _turns(side),
    "tool calls": lambda side: str(side.counters.tool_calls),
    "tokens": lambda side: _tokens(side.counters.usage),
    "cost": lambda side: cost(side.counters.usage.cost_usd),
    "time": lambda side: duration(timedelta(seconds=side.seconds)),
    "since then": lambda side: _since(side),
}
"""What is told of each run, and how; a row that both have nothing to say to is left out."""


def print_diff(found: RunDiff) -> None:
    """Print both runs beside each other, then where they part, and what each came to."""
    out = console()
    sides = (found.a, found.b)
    rows = [(name, *(one_line(tell(side)) for side in sides)) for name, tell in _ROWS.items()]
    names = [clean(side.workflow_id) for side in sides]
    print_table(out, ("", f"A: {names[0]}", f"B: {names[1]}"), [row for row in rows if any(row[1:])])
    same = f"{plural(found.common_messages, 'message')} of {plural(found.common_turns, 'turn')}"
    if found.parting is None:
        out.print(f"\nThe conversations are the same: {same}.")
    else:
        out.print(f"\nThe same: {same}. {_where(found.parting)}")
        for name, messages in (("A", found.parting.a), ("B", found.parting.b)):
            _print_messages(out, name, messages, found.parting)
    out.print("\nOutcome")
    for name, side in zip("AB", sides, strict=True):
        print_labelled(out, name, _outcome(side), width=2)


def _turns(side: Side) -> str:
    copied = side.counters.copied_turns
    return str(side.counters.turns) + (f", after {copied} that were copied" if copied else "")


def _tokens(usage: Usage) -> str:
    return f"{usage.input_tokens:,} in, {usage.output_tokens:,} out"


def _since(side: Side) -> str:
    if side.usage_since is None:
        return f"{plural(side.turns_since, 'turn')} · their cost is no longer retained"
    used = side.usage_since
    return f"{plural(side.turns_since, 'turn')} · {used.total_tokens:,} tokens · {cost(used.cost_usd)}"


def _where(parting: Parting) -> str:
    if parting.where == "reply":
        return f"They part at turn {parting.turn}:"
    what = "a tool's result" if parting.where == "result" else "what was said"
    if parting.where == "message" and parting.turn == 0:
        return "They part at their inputs:"
    return f"They part at turn {parting.turn}, by {what}{' after it' if parting.where == 'message' else ''}:"


def _print_messages(out: Console, name: str, messages: Sequence[Message], parting: Parting) -> None:
    out.print(f"{name}" if messages else f"{name}  (over)")
    printer = MessagePrinter(out)
    printer.turns = parting.turn - (parting.where == "reply")
    for message in messages:
        printer.print(TranscriptEntry(slot=0, message=message))


def _outcome(side: Side) -> str:
    if side.failure:
        return clean(side.failure)
    if side.status != "completed":
        return f"({side.status.replace('_', ' ')})"
    value = side.output
    return clean(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
