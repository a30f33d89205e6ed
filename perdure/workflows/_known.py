"""Results of a run that identical tool calls are answered with. Workflow side; pure.

A result stays where it is, in the conversation: what is kept, and carried when the run continues as new, is the
digest of the call and the slot.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256

from perdure.contracts.run import KnownResult
from perdure.contracts.spec import ToolSpec

_MAX_KNOWN = 1000
"""About 60 kB when they are carried."""


class KnownResults:
    """Which slot holds the result of a call.

    Args:
        known: Carried from the run that this one continues, the oldest first.
    """

    def __init__(self, known: Iterable[KnownResult] = ()) -> None:
        """Start with what is known."""
        self._slots = {each.digest: each.slot for each in known}

    def sources(self, calls: Sequence[tuple[int, str]]) -> dict[int, int]:
        """Return the calls that need not be made, by their slot: the slot that holds their result, or will.

        Args:
            calls: Slot and digest of each call of a turn; the digest of a call that no other may answer is empty.
        """
        found: dict[int, int] = {}
        open_calls: dict[str, int] = {}
        for slot, digest in calls:
            if not digest:
                continue
            source = self._slots.get(digest, open_calls.setdefault(digest, slot))
            if source != slot:
                found[slot] = source
        return found

    def add(self, digest: str, slot: int) -> None:
        """Remember a result, and forget the oldest where there are many."""
        self._slots.setdefault(digest, slot)
        if len(self._slots) > _MAX_KNOWN:
            del self._slots[next(iter(self._slots))]

    def move(self, slots: Mapping[int, int]) -> None:
        """Follow results to other slots, and forget those that have none."""
        self._slots = {digest: slots[slot] for digest, slot in self._slots.items() if slot in slots}

    def latest(self) -> tuple[KnownResult, ...]:
        """Return what a run hands to its successor."""
        return tuple(KnownResult(digest=digest, slot=slot) for digest, slot in self._slots.items())


def call_digest(tool: ToolSpec, arguments: str) -> str:
    """Return what tells identical calls: of the same tool, as it was pinned, with the same arguments.

    The order of the arguments and the space between them don't count. It is empty where they are no JSON: then
    the model is told so, by the call.
    """
    try:
        values = json.loads(arguments or "{}")
        text = json.dumps(values, sort_keys=True, separators=(",", ":"))
    except (ValueError, RecursionError):
        return ""
    return sha256(tool.to_bytes() + b"\n" + text.encode()).hexdigest()[:32]
