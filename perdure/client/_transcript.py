"""The conversation of a run, read from Event History. Client side; needs no worker."""

from pydantic import BaseModel, ConfigDict

from perdure.contracts.messages import Message
from perdure.contracts.usage import Usage
from perdure.history import RecordedRun


class TranscriptEntry(BaseModel):
    """A message of a conversation, with what it took to get it."""

    model_config = ConfigDict(frozen=True)

    slot: int
    message: Message
    usage: Usage | None = None
    """Of the model call that wrote it, when this run made that call."""
    problem: str = ""
    """Why the loop could not use it."""
    is_saved: bool = False
    """It is the result of another call, which this one repeats."""


def transcript(run: RecordedRun) -> list[TranscriptEntry]:
    """Return the main conversation in order."""
    entries: list[TranscriptEntry] = []
    for (name, epoch), messages in run.conversations.items():
        if messages is not run.conversation():
            continue
        for slot in sorted(messages):
            result = run.model_results.get((name, epoch, slot))
            entries.append(
                TranscriptEntry(
                    slot=slot,
                    message=messages[slot],
                    usage=result.usage if result else None,
                    problem=result.problem if result else "",
                    is_saved=(name, epoch, slot) in run.saved or bool(result and result.saved),
                )
            )
    return entries
