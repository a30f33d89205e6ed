"""Making room in a conversation: how it is asked for, and what was done. Both sides; pure.

A compaction makes the next epoch of a conversation. What is recorded is how: which slots of the epoch before stay,
which are cut, and what is new. `compacted` applies such a record, here and on every later day, so that what it
makes of one, its notices included, never changes.
"""

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field

from perdure.contracts._base import Contract
from perdure.contracts.messages import FilePart, ImagePart, Message, TextPart, ToolResultPart

CompactionKind = Literal["drop_tool_results", "summarise", "function"]

_LEAST_GAIN = 200
"""A result that is hardly longer than what would be left of it stays whole, in bytes."""
_MEDIA_TOKENS = 1500
"""About what an image takes; its bytes say nothing. What a vendor has counted needs no estimate."""


class CompactionStep(Contract):
    """One way to make room."""

    action: CompactionKind
    function: str = ""
    """Its name, where a function of the user's does it."""


class Room(Contract):
    """How long a conversation may be, and how its length is estimated."""

    target_tokens: Annotated[int, Field(ge=1)]
    """What its messages may take together when there is room again."""
    tokens_per_byte: Annotated[float, Field(gt=0)]
    """Of this conversation, as the vendor counted it so far."""


class SummaryAsk(Contract):
    """Ask a model for a summary of the older part of a conversation, in place of the next message."""

    room: Room
    prompt_tokens: Annotated[int, Field(ge=1)]
    """The most that is summarised at once."""


class CompactedPart(Contract):
    """A piece of the new epoch: slots of the one before, or a message that is new."""

    start: int = 0
    stop: int = 0
    cut_bytes: int | None = None
    """Tool results in these slots keep so many bytes of their text; None for all of it."""
    message: Message | None = None


def compacted(messages: Sequence[Message], parts: Sequence[CompactedPart]) -> list[Message]:
    """Return the messages of the epoch that `parts` describe, made of those of the one before."""
    made: list[Message] = []
    for part in parts:
        if part.message is not None:
            made.append(part.message)
        elif part.cut_bytes is None:
            made.extend(messages[part.start : part.stop])
        else:
            made.extend(cut_result(each, part.cut_bytes) for each in messages[part.start : part.stop])
    return made


def moved_slots(parts: Sequence[CompactedPart]) -> dict[int, int]:
    """Return where slots are in the new epoch, of those that are as they were."""
    found: dict[int, int] = {}
    position = 0
    for part in parts:
        if part.message is not None:
            position += 1
            continue
        if part.cut_bytes is None:
            found.update({slot: position + slot - part.start for slot in range(part.start, part.stop)})
        position += part.stop - part.start
    return found


def cut_result(message: Message, keep_bytes: int) -> Message:
    """Return a tool's message with at most the first `keep_bytes` of its result; other messages as they are."""
    if message.role != "tool":
        return message
    parts = tuple(_cut(part, keep_bytes) if isinstance(part, ToolResultPart) else part for part in message.parts)
    return message if parts == message.parts else message.model_copy(update={"parts": parts})


def _cut(result: ToolResultPart, keep_bytes: int) -> ToolResultPart:
    text = "".join(part.text for part in result.content if isinstance(part, TextPart))
    data = text.encode(errors="replace")
    media = sum(isinstance(part, ImagePart | FilePart) for part in result.content)
    if not media and len(data) <= keep_bytes + _LEAST_GAIN:
        return result
    kept = data[:keep_bytes].decode(errors="ignore")
    notice = f"[cut by perdure to make room: {min(keep_bytes, len(data))} of {len(data)} bytes kept"
    notice += f", {media} attachments dropped]" if media else "]"
    content = (TextPart(text=f"{kept}\n{notice}" if kept else notice),)
    return result.model_copy(update={"content": content})


def weigh(message: Message) -> tuple[int, int]:
    """Return the bytes of a message, and how many images and files it has."""
    media = 0
    for part in message.parts:
        inner = part.content if isinstance(part, ToolResultPart) else (part,)
        media += sum(isinstance(each, ImagePart | FilePart) for each in inner)
    return len(message.to_bytes()), media


def tokens_of(weight: tuple[int, int], tokens_per_byte: float) -> int:
    """Return about how many tokens a message of that weight takes."""
    size, media = weight
    return round(size * tokens_per_byte) + media * _MEDIA_TOKENS


def estimate_tokens(message: Message, tokens_per_byte: float) -> int:
    """Return about how many tokens a message takes."""
    return tokens_of(weigh(message), tokens_per_byte)
