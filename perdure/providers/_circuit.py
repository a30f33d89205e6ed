"""Activity side; owns the circuit of a provider: whether it is worth calling at all. Pure: its clock is given.

Closed, calls go. After so many outages in a row, on whatever calls, it is open: none goes for a while. Then one
call probes: its success closes the circuit, its failure opens it for twice as long.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from perdure.contracts.workers import CircuitState

_FAILURES: Final = 5
_FIRST_SECONDS: Final = 2.0
_LONGEST_SECONDS: Final = 60.0
_PROBE_SECONDS: Final = 1.0
"""When to ask again while a probe is under way."""


@dataclass(slots=True)
class Circuit:
    """Counts outages."""

    clock: Callable[[], float]
    state: CircuitState = "closed"
    failures: int = 0
    """In a row."""
    _open_until: float = 0.0
    _seconds: float = _FIRST_SECONDS

    @property
    def left(self) -> float:
        """The seconds until it probes; 0 unless it is open."""
        return max(0.0, self._open_until - self.clock()) if self.state == "open" else 0.0

    def wait(self) -> float:
        """Return the seconds to stay away; 0 lets a call go. The first after an outage is the probe."""
        if self.state == "closed":
            return 0.0
        if self.state == "probing":
            return _PROBE_SECONDS
        wait = self._open_until - self.clock()
        if wait > 0:
            return wait
        self.state = "probing"
        return 0.0

    def succeeded(self) -> None:
        """The provider answered."""
        self.state, self.failures, self._seconds = "closed", 0, _FIRST_SECONDS

    def failed(self, sent_at: float) -> None:
        """A call that was sent at that time found the provider down."""
        if self.state == "open" or (self.state == "probing" and sent_at < self._open_until):
            return  # sent before it opened: known already
        self.failures += 1
        if self.state == "probing":
            self._seconds = min(self._seconds * 2, _LONGEST_SECONDS)
            self._open()
        elif self.failures >= _FAILURES:
            self._open()

    def abandoned(self) -> None:
        """A call was given up before it told anything; the next may probe."""
        if self.state == "probing":
            self.state = "open"

    def _open(self) -> None:
        self.state, self._open_until = "open", self.clock() + self._seconds
