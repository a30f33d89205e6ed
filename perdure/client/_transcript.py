"""The conversation of a run, read from Event History. Client side; needs no worker."""

from collections.abc import Iterator

from pydantic import BaseModel, ConfigDict
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from perdure.client._runs import describe, not_found
from perdure.contracts.messages import Message
from perdure.contracts.names import MAIN_CONVERSATION
from perdure.contracts.usage import Usage
from perdure.history import RecordedRun, read_run


class TranscriptEntry(BaseModel):
    """A message of a conversation, with what it took to get it."""

    model_config = ConfigDict(frozen=True)

    slot: int
    """Its place in the conversation, of that epoch."""
    message: Message
    usage: Usage | None = None
    """Of the model call that wrote it, when this run made that call."""
    problem: str = ""
    """Why the loop could not use it."""
    is_saved: bool = False
    """It is the result of another call, which this one repeats."""
    epoch: int = 0
    """How often room was made before it."""
    run_id: str = ""
    """The run of the chain that recorded it, in a full transcript."""


class FullTranscript(BaseModel):
    """All that was said, over all runs of a chain."""

    model_config = ConfigDict(frozen=True)

    entries: tuple[TranscriptEntry, ...]
    missing_run_id: str = ""
    """A run that the server no longer has: the entries begin with what the run after it had copied of it."""


def transcript(run: RecordedRun) -> list[TranscriptEntry]:
    """Return the main conversation as it is now, in order."""
    found = run.conversation()
    epoch = max((e for (n, e) in run.conversations if n == MAIN_CONVERSATION), default=0)
    return [_entry(run, epoch, slot, found[slot]) for slot in sorted(found)]


def said(run: RecordedRun) -> list[TranscriptEntry]:
    """Return what was said in a run, each message once: summaries come where they were made.

    What it copied from the run before is not in it.
    """
    carried = None if run.request is None else run.request.carried
    copied = None if carried is None else (carried.epoch, carried.conversation_slots)
    return [entry for entry in everything(run) if copied is None or (entry.epoch, entry.slot) >= copied]


def everything(run: RecordedRun) -> Iterator[TranscriptEntry]:
    """Yield every message that a run has recorded, once, over all epochs: what it copied comes first."""
    for epoch in sorted(e for (n, e) in run.conversations if n == MAIN_CONVERSATION):
        messages = run.conversation(MAIN_CONVERSATION, epoch)
        parts, known, position = run.compactions.get((MAIN_CONVERSATION, epoch), ()), set[int](), 0
        for part in parts:
            count = 1 if part.message is not None else part.stop - part.start
            if part.message is None:
                known.update(range(position, position + count))
            position += count
        for slot in sorted(messages.keys() - known):
            yield _entry(run, epoch, slot, messages[slot])


def _entry(run: RecordedRun, epoch: int, slot: int, message: Message) -> TranscriptEntry:
    key = (MAIN_CONVERSATION, epoch, slot)
    result = run.model_results.get(key)
    return TranscriptEntry(
        slot=slot,
        message=message,
        usage=result.usage if result else None,
        problem=result.problem if result else "",
        is_saved=key in run.saved or bool(result and result.saved),
        epoch=epoch,
    )


async def full_transcript(client: Client, workflow_id: str) -> FullTranscript:
    """Return all that was said in a run, those that it continues and those that it was started again from.

    Raises:
        RunNotFoundError: There is no such run. Not retryable.
    """
    chain, missing = await read_chain(client, workflow_id)
    entries: list[TranscriptEntry] = []
    for run_id, run in chain:
        found = said_in(run, is_first=not entries)
        entries += [entry.model_copy(update={"run_id": run_id}) for entry in found]
    return FullTranscript(entries=tuple(entries), missing_run_id=missing)


def said_in(run: RecordedRun, *, is_first: bool) -> Iterator[TranscriptEntry]:
    """Yield what a run of a chain has to tell: what it copied only where no run before it tells that."""
    for entry in everything(run):
        if is_first or (MAIN_CONVERSATION, entry.epoch, entry.slot) not in run.copied:
            yield entry


async def read_chain(client: Client, workflow_id: str) -> tuple[list[tuple[str, RecordedRun]], str]:
    """Return the runs of a chain, the oldest first, and the run that is missing before them; empty if none is.

    Raises:
        RunNotFoundError: There is no such run. Not retryable.
    """
    described = await describe(client, workflow_id)
    run_id = described.workflow_execution_info.execution.run_id
    chain: list[tuple[str, RecordedRun]] = []
    while run_id:
        try:
            run = await read_run(client, workflow_id, run_id)
        except RPCError as error:
            if chain and error.status == RPCStatusCode.NOT_FOUND:
                break
            raise not_found(error, workflow_id) from None
        chain.append((run_id, run))
        carried = None if run.request is None else run.request.carried
        run_id = "" if carried is None or carried.fork is not None else carried.from_run_id
    return chain[::-1], run_id
