"""How much a server may send. Activity side; pure but for the clock."""

import time
from collections.abc import Callable

_WINDOW_SECONDS = 1.0
_MAX_MESSAGES = 2000
"""In a second: a server that tells more keeps a worker busy with nothing else."""
_BURSTS = 4
"""So many of the largest messages may come within a second."""


class Flooded(Exception):
    """A server sends more than it may; the text says what."""


class Meter:
    """Counts what comes from one server."""

    def __init__(self, max_message_bytes: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Let through messages of up to this size."""
        self._max_bytes = max_message_bytes * _BURSTS
        self._clock = clock
        self._began = clock()
        self._messages = self._bytes = 0

    def add(self, size: int, *, messages: int = 1) -> None:
        """Count what came.

        Raises:
            Flooded: It is too much for a second.
        """
        now = self._clock()
        if now - self._began > _WINDOW_SECONDS:
            self._began, self._messages, self._bytes = now, 0, 0
        self._messages += messages
        self._bytes += size
        if self._messages > _MAX_MESSAGES:
            raise Flooded(f"it sent more than {_MAX_MESSAGES} messages within a second")
        if self._bytes > self._max_bytes:
            raise Flooded(f"it sent more than {self._max_bytes} bytes within a second")
