"""Heartbeats with what an open call has to show. Activity side.

The first beat comes after an interval, so that a quick call costs none.
"""

import asyncio
import random
from datetime import timedelta
from types import TracebackType
from typing import Self

from temporalio import activity

from perdure.contracts.calls import Progress

_TAIL_CHARS = 2000
"""At most 8 kB, since a character takes up to four bytes."""
_BEATS_PER_TIMEOUT = 3
_FIRST_DELAY_SECONDS = 0.5
_MAX_DELAY_SECONDS = 30.0


class Heart:
    """Beats until the call is over; collects the text of a streamed reply.

    Attributes:
        tries: Attempts that failed before this one, from the heartbeat details of the last.
        open_calls: How many hearts beat in this worker.
    """

    open_calls = 0

    def __init__(self) -> None:
        """Take over what the last attempt left."""
        info = activity.info()
        timeout = info.heartbeat_timeout
        self._interval = None if timeout is None else timeout.total_seconds() / _BEATS_PER_TIMEOUT
        self._timer: asyncio.TimerHandle | None = None
        self._pieces: list[str] = []
        self.tries = last_progress().tries

    def __enter__(self) -> Self:
        """Start beating."""
        Heart.open_calls += 1
        self._schedule()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop beating."""
        Heart.open_calls -= 1
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    @property
    def text(self) -> str:
        """The reply so far."""
        if len(self._pieces) > 1:
            self._pieces[:] = ["".join(self._pieces)]
        return self._pieces[0] if self._pieces else ""

    def follow(self, pieces: list[str]) -> None:
        """Show the reply that grows in `pieces`; they may be joined in place."""
        self._pieces = pieces

    def count_try(self) -> int:
        """Note that this attempt failed, for the next one, and return how many have."""
        self.tries += 1
        if self._interval is not None:
            activity.heartbeat(Progress(tries=self.tries))
        return self.tries

    def _schedule(self) -> None:
        if self._interval is not None:
            self._timer = asyncio.get_running_loop().call_later(self._interval, self._beat)

    def _beat(self) -> None:
        text = self.text
        tail = text[-_TAIL_CHARS:]
        activity.heartbeat(Progress(tries=self.tries, offset=len(text) - len(tail), text=tail))
        self._schedule()


def last_progress() -> Progress:
    """Return what the last attempt left."""
    details = activity.info().heartbeat_details
    return Progress.model_validate(details[0]) if details else Progress()


def backoff(tries: int) -> timedelta:
    """Return how long to wait after `tries` failed tries; at most 30 s.

    Half of it is drawn by chance, so that runs that failed together don't come back together (the "equal jitter"
    of https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/).
    """
    full = min(_MAX_DELAY_SECONDS, _FIRST_DELAY_SECONDS * 2 ** min(tries, 10))
    return timedelta(seconds=full / 2 + random.uniform(0, full / 2))
