"""What a collection sees of storage: a listing with sizes and times, and deletion of what is still old."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True)
class Stored:
    """A payload in storage.

    Attributes:
        name: What references call it.
        size: In bytes.
        modified: When it was written last, by the clock of `Place.now`.
        path: The file, in a folder.
        version: What is another one once it was written again, where the store has that.
    """

    name: str
    size: int
    modified: float
    path: Path = Path()
    version: tuple[str, ...] = ()


class Place(Protocol):
    """Where the payloads of one namespace are.

    Every method raises a StorageError, not retryable, where the store is away or refuses.
    """

    @property
    def least_age(self) -> timedelta:
        """What is younger may be in use, whatever the user says."""
        ...

    async def now(self) -> float:
        """Return the time that what is written now gets. Fails where nothing can be listed."""
        ...

    def pages(self) -> AsyncIterator[Sequence[Stored]]:
        """Yield all that is there and is the driver's own, page by page."""
        ...

    async def keep(self, stored: Stored) -> None:
        """Undo what a collection that died has begun with it."""
        ...

    def delete(self, page: Sequence[Stored], before: float) -> AsyncIterator[Stored]:
        """Delete what nobody wrote again meanwhile, and yield what is gone.

        Args:
            page: Of one page, in its order.
            before: What was written later stays.
        """
        ...
