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
from perdure.client._show import RunDetails
from perdure.client._transcript import FullTranscript, full_transcript
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

    model_config = ConfigDict(frozen=True)

    info: RunInfo
    found: FullTranscript
    details: RunDetails
    seconds: float

    @property
    def messages(self) -> list[Message]:
        """All that was said, over the whole chain of runs."""
        return [entry.message for entry in self.found.entries]


async def read_side(client: Client, workflow_id: str, details: RunDetails) -> RunRead:
    """Read a run, of which the details are known.

    Raises:
        RunNotFoundError: There is no such run. Not retryable.
    """
    info = details.info
    started = await first_start(client, await describe(client, workflow_id))
    seconds = ((info.closed_at or datetime.now(UTC)) - started).total_seconds()
    return RunRead(info=info, found=await full_transcript(client, workflow_id), details=details, seconds=seconds)


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


def parting(a: Sequence[Message], b: Sequence[Message], place: int) -> Parting | None:
    """Return where two conversations part, given how many messages are the same."""
    sides = [tuple(messages[place : _until(messages, place)]) for messages in (a, b)]
    if not any(sides):
        return None
    turn = sum(message.role == "assistant" for message in a[:place])
    roles = {side[0].role for side in sides if side}
    if "assistant" in roles:
        return Parting(turn=turn + 1, where="reply", a=sides[0], b=sides[1])
    return Parting(turn=turn, where="result" if "tool" in roles else "message", a=sides[0], b=sides[1])


def _until(messages: Sequence[Message], place: int) -> int:
    later = range(place + 1, len(messages))
    return next((n for n in later if messages[n].role == "assistant"), len(messages))


def common_turns(messages: Sequence[Message], place: int) -> int:
    """Return how many turns are over before a place, with the results of their calls."""
    replies = [n for n in range(place) if messages[n].role == "assistant"]
    return sum(min(n + 1 + len(messages[n].tool_calls), _until(messages, n)) <= place for n in replies)


def make_side(read: RunRead, place: int, output: JsonValue) -> Side:
    """Put together what there is to say of a run that parts from another at a place."""
    details, entries = read.details, read.found.entries[place:]
    usage = NO_USAGE
    for entry in entries:
        usage = usage if entry.usage is None else usage + entry.usage
    replies = [entry for entry in entries if entry.message.role == "assistant"]
    is_known = not read.found.missing_run_id or all(entry.usage is not None for entry in replies)
    return Side(
        workflow_id=read.info.workflow_id,
        run_id=read.info.run_id,
        status=read.info.status,
        agent=read.info.agent or "",
        models=details.models,
        forked=details.forked,
        messages=len(read.found.entries),
        counters=details.counters,
        seconds=read.seconds,
        turns_since=len(replies),
        usage_since=usage if is_known else None,
        output=output,
        failure=details.failure,
    )
