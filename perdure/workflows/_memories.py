"""`Memories`: the entries of a memory, and which make room for others. Workflow side; pure, rebuilt by replay."""

from datetime import datetime

from perdure.contracts.memory import ForgetRequest, MemoryBatch, MemoryEntry, MemoryState, MemoryView

_MAX_BATCHES = 500
"""Ids that are remembered: a batch comes again within minutes, or never."""


class Memories:
    """Entries by key, in the order of their last use."""

    def __init__(self, state: MemoryState) -> None:
        """Go on from what a predecessor knew."""
        self._entries = {entry.key: entry for entry in state.entries}  # who was used longest ago comes first
        self._batches: dict[str, None] = dict.fromkeys(state.batches)
        self._max_bytes = state.max_bytes
        self._dropped = state.dropped
        self._bytes = sum(map(_size, self._entries.values()))

    def __len__(self) -> int:
        """Return the number of entries."""
        return len(self._entries)

    def take(self, batch: MemoryBatch) -> None:
        """Enter a batch, unless it is here already, and make room."""
        if batch.id in self._batches:
            return
        self._batches[batch.id] = None
        if len(self._batches) > _MAX_BATCHES:
            del self._batches[next(iter(self._batches))]
        self._max_bytes = batch.max_bytes or self._max_bytes
        for entry in batch.entries:
            known = self._pop(entry.key)
            self._put(entry if known is None else entry.model_copy(update={"recalls": known.recalls}))
        for key in batch.recalled:
            known = self._pop(key)
            if known is not None:
                self._put(known.model_copy(update={"recalls": known.recalls + 1}))
        while self._bytes > self._max_bytes:
            self._pop(next(iter(self._entries)))
            self._dropped += 1

    def expire(self, now: datetime) -> int:
        """Drop what has expired, and return how many entries that were."""
        gone = [key for key, entry in self._entries.items() if _is_expired(entry, now)]
        for key in gone:
            self._pop(key)
        return len(gone)

    def next_expiry(self) -> datetime | None:
        """Return when the next entry expires; None when none does."""
        return min((entry.expires_at for entry in self._entries.values() if entry.expires_at), default=None)

    def forget(self, request: ForgetRequest) -> tuple[str, ...]:
        """Drop entries, and return the keys of those that there were."""
        keys = tuple(self._entries) if request.is_all else request.keys
        return tuple(key for key in keys if self._pop(key) is not None)

    def view(self, now: datetime) -> MemoryView:
        """Return what has not expired, what was used last first."""
        entries = tuple(entry for entry in reversed(self._entries.values()) if not _is_expired(entry, now))
        return MemoryView(
            entries=entries,
            bytes=sum(map(_size, entries)),
            max_bytes=self._max_bytes,
            dropped=self._dropped,
        )

    def state(self) -> MemoryState:
        """Return all that is to be carried on."""
        return MemoryState(
            entries=tuple(self._entries.values()),
            batches=tuple(self._batches),
            max_bytes=self._max_bytes,
            dropped=self._dropped,
        )

    def _put(self, entry: MemoryEntry) -> None:
        self._entries[entry.key] = entry
        self._bytes += _size(entry)

    def _pop(self, key: str) -> MemoryEntry | None:
        entry = self._entries.pop(key, None)
        self._bytes -= 0 if entry is None else _size(entry)
        return entry


def _size(entry: MemoryEntry) -> int:
    return len(entry.to_bytes())


def _is_expired(entry: MemoryEntry, now: datetime) -> bool:
    return entry.expires_at is not None and entry.expires_at <= now
