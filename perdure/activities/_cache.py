"""The worker's memory of conversations and specs. Activity side; a cache, never the record.

Whoever makes a message puts it here, and whoever builds a prompt looks here first. Event History stays the only
record, so that anything may be forgotten at any time.
"""

import sys
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import NamedTuple

from pydantic import JsonValue
from pydantic_core import to_json

from perdure.contracts.digests import message_digest
from perdure.contracts.messages import (
    ArtifactPart,
    Message,
    Part,
    ReasoningPart,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)
from perdure.contracts.spec import AgentSpec
from perdure.providers.base import Fragment

_ENTRY_OVERHEAD = 1000
"""Bytes that a message takes beyond its text: about what CPython needs for the objects around it."""


class ConversationKey(NamedTuple):
    """Which conversation of which run."""

    workflow_id: str
    run_id: str
    conversation: str
    epoch: int


@dataclass(slots=True)
class Slot:
    """A message, its encodings by wire protocol, and its digest."""

    message: Message
    fragments: dict[str, Fragment] = field(default_factory=dict[str, Fragment])
    _digest: bytes = b""

    @property
    def digest(self) -> bytes:
        """The message's digest; made once."""
        if not self._digest:
            self._digest = message_digest(self.message)
        return self._digest

    def size(self) -> int:
        """Return about how many bytes it holds."""
        parts = sum(_size(part) for part in self.message.parts)
        encoded = sum(len(each.body) for each in self.fragments.values())
        return _ENTRY_OVERHEAD + parts + _vendor_size(self.message.vendor) + encoded


def _size(part: Part) -> int:
    match part:
        case TextPart():
            return sys.getsizeof(part.text)
        case ReasoningPart():
            return sys.getsizeof(part.text) + _vendor_size(part.vendor)
        case ToolCallPart():
            return sys.getsizeof(part.arguments)
        case ToolResultPart():
            return sum(_size(each) for each in part.content)
        case ArtifactPart():
            return sys.getsizeof(part.name)
        case _:
            return sys.getsizeof(part.url)


def _vendor_size(data: dict[str, JsonValue] | None) -> int:
    return 0 if data is None else len(to_json(data))


class MessageCache:
    """Slots by conversation; the conversations least recently used are forgotten first.

    Args:
        max_bytes: About how much to keep; 0 keeps nothing.
    """

    def __init__(self, max_bytes: int) -> None:
        """Start empty."""
        self._max_bytes = max_bytes
        self._bytes = 0
        self._conversations: OrderedDict[ConversationKey, dict[int, Slot]] = OrderedDict()
        self._sizes: dict[ConversationKey, int] = {}

    def get(self, key: ConversationKey) -> dict[int, Slot]:
        """Return the known slots of a conversation; empty when there are none."""
        slots = self._conversations.get(key)
        if slots is None:
            return {}
        self._conversations.move_to_end(key)
        return slots

    def put(self, key: ConversationKey, slots: dict[int, Slot]) -> None:
        """Remember slots, and forget other conversations where there is no room."""
        known = self._conversations.setdefault(key, {})
        self._conversations.move_to_end(key)
        for number, slot in slots.items():
            old = known.get(number)
            if old is not slot:
                known[number] = slot
                self._account(key, slot.size() - (old.size() if old is not None else 0))
        self._trim()

    def grow(self, key: ConversationKey, size: int) -> None:
        """Account for fragments that were added to slots in place."""
        if key in self._conversations:
            self._account(key, size)
            self._trim()

    def forget(self, key: ConversationKey) -> None:
        """Drop a conversation."""
        self._conversations.pop(key, None)
        self._bytes -= self._sizes.pop(key, 0)

    def _account(self, key: ConversationKey, size: int) -> None:
        self._sizes[key] = self._sizes.get(key, 0) + size
        self._bytes += size

    def _trim(self) -> None:
        while self._bytes > self._max_bytes and self._conversations:
            self.forget(next(iter(self._conversations)))


class SpecCache:
    """Specs by digest; the last few hundred."""

    def __init__(self, max_entries: int = 500) -> None:
        """Start empty."""
        self._max_entries = max_entries
        self._specs: OrderedDict[str, AgentSpec] = OrderedDict()

    def get(self, digest: str) -> AgentSpec | None:
        """Return the spec of that digest, if it is known."""
        spec = self._specs.get(digest)
        if spec is not None:
            self._specs.move_to_end(digest)
        return spec

    def put(self, spec: AgentSpec) -> None:
        """Remember a spec."""
        self._specs[spec.digest] = spec
        while len(self._specs) > self._max_entries:
            self._specs.popitem(last=False)
