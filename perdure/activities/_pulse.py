"""How often the calls of a worker should beat. Activity side; pure but for the clock that it is given.

A heartbeat costs the server about 4 ms of CPU (measured), so a thousand calls that each beat once a second would
take four cores of it, starve the beats, and have calls repeated that nobody cut. So the time after which a worker
counts as dead grows with what it has to do, and the number of beats a second stays about the same.
"""

from collections import deque
from collections.abc import Callable
from datetime import timedelta

_CALLS = 100
"""Up to so many calls, the timeout is the one that was set."""
_MAX_FACTOR = 16
_RECENT_SECONDS = 10.0


class Pulse:
    """Says which heartbeat timeout a run should have, when it starts.

    Args:
        timeout: The timeout of a worker with little to do.
        open_calls: Says how many calls are open now.
        clock: Seconds, monotonic.
    """

    def __init__(self, timeout: timedelta, *, open_calls: Callable[[], int], clock: Callable[[], float]) -> None:
        """Start with no runs."""
        self._timeout = timeout
        self._open_calls = open_calls
        self._clock = clock
        self._starts: deque[float] = deque(maxlen=_CALLS * _MAX_FACTOR)

    def next_timeout(self) -> timedelta:
        """Return the timeout of one more run; it doubles with the load, up to 16 times the one that was set.

        Runs that began in the last ten seconds count as calls: most of theirs are still to come.
        """
        now = self._clock()
        self._starts.append(now)
        while self._starts[0] < now - _RECENT_SECONDS:
            self._starts.popleft()
        load = max(self._open_calls(), len(self._starts))
        factor = 1
        while factor < _MAX_FACTOR and load > _CALLS * factor:
            factor *= 2
        return self._timeout * factor
