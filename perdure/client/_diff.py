"""Comparing two runs of agents: where they part, and what each came to. Client side; needs no worker.

Two messages are the same when they say the same: ids that a vendor makes anew on each call don't count, nor does
what a model thought before it answered.
"""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, JsonValue
from temporalio.client import Client

from perdure.client._runs import RunInfo, RunStatusName, describe, first_start
from perdure.client._show import count
from perdure.client._turns import Turns, read_earlier, read_turns
from perdure.contracts.fork import ForkedFrom
from perdure.contracts.messages import Message, Part, ReasoningPart, ToolCallPart, ToolResultPart
from perdure.contracts.run import Counters
from perdure.contracts.usage import NO_USAGE, Usage

Where = Literal["message", "reply", "result"]


class Parting(BaseModel):
    """The first difference between two conversations."""

    model_config = ConfigDict(frozen=True)

    turn: int
    """The turn that it is in; 0 for the input."""
    where: Where
    """What differs first: what a person or perdure said after the turn, the model's reply, or a tool's result."""
    a: tuple[Message, ...] = ()
    """From there on to the next reply; empty where the conversation is over."""
    b: tuple[Message, ...] = ()


class Side(BaseModel):
    """One of two runs that are compared."""

    model_config = ConfigDict(frozen=True)

    workflow_id: str
    run_id: str
    status: RunStatusName
    agent: str
    models: tuple[str, ...] = ()
    forked: ForkedFrom | None = None
    messages: int
    counters: Counters
    """Of what the run did and paid itself."""
    seconds: float
    """From its start to its end, or until now."""
    turns_since: int
    """Turns after the two part."""
    usage_since: Usage | None = None
    """What the run paid for these; None where an earlier run of its chain is no longer retained."""
    output: JsonValue = None
    failure: str = ""


class RunDiff(BaseModel):
    """Two runs, compared."""

    model_config = ConfigDict(frozen=True)

    a: Side
    b: Side
    common_messages: int
    common_turns: int
    """Turns of which everything is the same."""
    parting: Parting | None = None
    """None where the conversations are the same."""


class RunRead(BaseModel):
    """A run, read for a comparison."""

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)

    info: RunInfo
    turns: Turns
    seconds: float


async def read_side(client: Client, workflow_id: str) -> RunRead:
    """Read a run.

    Raises:
        RunNotFoundError: There is no such run. Not retryable.
        InvalidInputError: It is no run of an agent. Not retryable.
    """
    info, turns = await read_turns(client, workflow_id)
    started = await first_start(client, await describe(client, workflow_id))
    return RunRead(
        info=info, turns=turns, seconds=((info.closed_at or datetime.now(UTC)) - started).total_seconds()
    )


def common(a: Sequence[Message], b: Sequence[Message]) -> int:
    """Return how many messages two conversations begin with that are the same."""
    pairs = zip(a, b, strict=False)
    return next((n for n, (one, other) in enumerate(pairs) if said(one) != said(other)), min(len(a), len(b)))


def said(message: Message) -> Any:
    """Return what a message says, without what differs from call to call."""
    parts = [_said(part) for part in message.parts if not isinstance(part, ReasoningPart)]
    return message.role, message.author, parts


def _said(part: Part) -> Any:
    match part:
        case ToolCallPart():
            return part.name, _arguments(part.arguments)
        case ToolResultPart():
            return part.name, part.content, part.outcome
        case _:
            return part


def _arguments(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def parting(a: Turns, b: Turns, slot: int) -> Parting | None:
    """Return where two conversations part, given how many messages are the same."""
    sides = [tuple(turns.messages[slot : _until(turns, slot)]) for turns in (a, b)]
    if not any(sides):
        return None
    turn = sum(reply < slot for reply in a.replies)
    roles = {side[0].role for side in sides if side}
    if "assistant" in roles:
        return Parting(turn=turn + 1, where="reply", a=sides[0], b=sides[1])
    return Parting(turn=turn, where="result" if "tool" in roles else "message", a=sides[0], b=sides[1])


def _until(turns: Turns, slot: int) -> int:
    return next((reply for reply in turns.replies if reply > slot), len(turns.messages))


def common_turns(turns: Turns, slot: int) -> int:
    """Return how many turns are over before a slot, with the results of their calls."""
    return sum(turns.after_results(n) <= slot for n in range(1, len(turns.replies) + 1))


async def make_side(client: Client, read: RunRead, slot: int, output: JsonValue, failure: str) -> Side:
    """Put together what there is to say of a run that parts from another at a slot."""
    turns = read.turns
    spec = next(reversed(turns.run.specs.values()), None)
    request = turns.run.request
    return Side(
        workflow_id=read.info.workflow_id,
        run_id=read.info.run_id,
        status=read.info.status,
        agent=read.info.agent or ("" if spec is None else spec.name),
        models=() if spec is None else tuple(model.name for model in spec.models),
        forked=None if request is None else request.forked,
        messages=len(turns.messages),
        counters=count(turns.run),
        seconds=read.seconds,
        turns_since=sum(reply >= slot for reply in turns.replies),
        usage_since=await _usage_since(client, turns, slot),
        output=output,
        failure=failure,
    )


async def _usage_since(client: Client, turns: Turns, slot: int) -> Usage | None:
    """Add up what a run paid for replies from a slot on, over the runs of its chain."""
    total, stop = NO_USAGE, len(turns.messages)
    at: Turns | None = turns
    while at is not None:
        start = 0 if at.carried is None else at.carried.conversation_slots
        for reply in range(max(slot, start), stop):
            result = at.result(reply)
            total = total if result is None else total + result.usage
        if start <= slot or at.carried is None or at.carried.fork is not None:
            return total
        stop = start
        at = await read_earlier(client, at)
    return None
