"""The conversation as the workflow holds it. Workflow side; pure, rebuilt by replay."""

from collections.abc import Sequence

from perdure.contracts.calls import SlotMessage
from perdure.contracts.compaction import CompactedPart, compacted, weigh
from perdure.contracts.digests import ConversationDigest, message_digest, told_digest
from perdure.contracts.messages import Message, TextPart, ToolCallPart, repeat_result, tool_message
from perdure.contracts.names import MAIN_CONVERSATION
from perdure.contracts.run import MessagesPage, MessagesQuery

INLINE_BYTES = 4096
"""A message that workflow code made rides along with the next model call up to this size."""

_PAGE_BYTES = 1_000_000


class Conversation:
    """An append-only list of slots. A reserved slot is filled later, by a tool's result."""

    def __init__(self, name: str = MAIN_CONVERSATION, epoch: int = 0) -> None:
        """Start empty."""
        self.name = name
        self.epoch = epoch
        self._slots: list[Message | None] = []
        self._new: list[SlotMessage] = []
        self._weights: list[tuple[int, int]] = []
        self._digest = ConversationDigest()
        self._digested = 0

    def __len__(self) -> int:
        """Return the number of slots, reserved ones included."""
        return len(self._slots)

    def append(self, message: Message, *, is_recorded: bool) -> int:
        """Fill the next slot.

        Args:
            message: The message.
            is_recorded: Event History holds it already, as the input or the result of something. What it
                doesn't hold must be short, since it is recorded with the next model call.
        """
        self._slots.append(message)
        slot = len(self._slots) - 1
        if not is_recorded:
            self._new.append(SlotMessage(slot=slot, message=message))
        return slot

    def append_sent(self, message: Message, id: str) -> None:
        """Fill the next slot with a message that was recorded when it was sent to the run."""
        self._slots.append(message)
        stub = Message(role=message.role)
        self._new.append(SlotMessage(slot=len(self._slots) - 1, message=stub, sent=id))

    def reserve(self, count: int) -> int:
        """Keep `count` slots for tool results, and return the first."""
        first = len(self._slots)
        self._slots.extend([None] * count)
        return first

    def fill(self, slot: int, message: Message, *, is_recorded: bool) -> None:
        """Fill a reserved slot."""
        self._slots[slot] = message
        if not is_recorded:
            self._new.append(SlotMessage(slot=slot, message=message))

    def fill_like(self, slot: int, call: ToolCallPart, source: int) -> None:
        """Fill a reserved slot with the result in slot `source`: a reference is recorded, not the content."""
        stub = tool_message(call, ())
        self._slots[slot] = repeat_result(stub, self.message(source))
        self._new.append(SlotMessage(slot=slot, message=stub, same_as=source))

    def message(self, slot: int) -> Message:
        """Return the message of a filled slot."""
        message = self._slots[slot]
        assert message is not None, "the slot is reserved, and not yet filled"
        return message

    def is_filled(self, slot: int) -> bool:
        """Say whether a slot is not just reserved."""
        return self._slots[slot] is not None

    def last_reply(self) -> int:
        """Return the slot of the model's last message; -1 where there is none."""
        slots = reversed(range(len(self._slots)))
        return next((n for n in slots if (each := self._slots[n]) is not None and each.role == "assistant"), -1)

    def last(self) -> Message | None:
        """Return the message of the last slot; None of an empty conversation."""
        return self._slots[-1] if self._slots else None

    def take_new(self) -> tuple[SlotMessage, ...]:
        """Return what the next model call must record, once."""
        new = tuple(sorted(self._new, key=lambda each: each.slot))
        self._new.clear()
        return new

    def put_back(self, new: tuple[SlotMessage, ...]) -> None:
        """Take back what a model call that was not made would have recorded."""
        self._new.extend(new)

    def compact(self, parts: Sequence[CompactedPart]) -> None:
        """Go on with the next epoch, made as `parts` say; no slot is open, and everything is recorded."""
        self._slots = [*compacted(self.messages(), parts)]
        self._weights.clear()
        self._digest, self._digested = ConversationDigest(), 0
        self.epoch += 1

    def digest(self, stop: int | None = None) -> str:
        """Return the digest of the messages before `stop`, all of which are filled; of all when None.

        `stop` never goes back: what was counted stays counted.
        """
        end = len(self._slots) if stop is None else stop
        for slot in range(self._digested, end):
            self._digest.add(message_digest(self.message(slot)))
        self._digested = end
        return self._digest.told()

    def digest_of(self, slot: int) -> str:
        """Return the digest of the message of a filled slot."""
        return told_digest(message_digest(self.message(slot)))

    def weights(self) -> Sequence[tuple[int, int]]:
        """Return the weights of the messages, up to the first slot that is open."""
        for message in self._slots[len(self._weights) :]:
            if message is None:
                break
            self._weights.append(weigh(message))
        return self._weights

    def page(self, query: MessagesQuery) -> MessagesPage:
        """Return consecutive filled slots from `query.start`, at most 1 MB of them but at least one."""
        stop = len(self._slots) if query.stop is None else min(query.stop, len(self._slots))
        messages: list[Message] = []
        size = 0
        for message in self._slots[query.start : stop]:
            if message is None:
                break
            size += len(message.to_bytes())
            if messages and size > _PAGE_BYTES:
                break
            messages.append(message)
        return MessagesPage(start=query.start, total=len(self._slots), messages=tuple(messages))

    def question(self) -> str:
        """Return the text of the first message."""
        first = self._slots[0] if self._slots else None
        parts = () if first is None else first.parts
        texts = (part.text if isinstance(part, TextPart) else getattr(part, "reference", "") for part in parts)
        return "".join(texts)

    def messages(self) -> tuple[Message, ...]:
        """Return the filled slots, in order."""
        return tuple(each for each in self._slots if each is not None)

    def last_text(self) -> str:
        """Return the last text that the model wrote; empty when it wrote none."""
        written = (each.text for each in reversed(self._slots) if each is not None and each.role == "assistant")
        return next((text for text in written if text), "")
