"""What a live worker says of itself when it is asked. Both sides; never part of a run's history."""

from typing import Literal

from perdure.contracts._base import Contract

CircuitState = Literal["closed", "open", "probing"]


class ProviderLimit(Contract):
    """A limit that a vendor tells."""

    counted: str
    """What it counts: `requests`, `tokens`, `input-tokens` or `output-tokens`."""
    per_minute: float


class ProviderState(Contract):
    """What a worker knows of a provider that it has called, for one key."""

    provider: str
    circuit: CircuitState = "closed"
    failures: int = 0
    """Outages in a row."""
    probe_in_seconds: float = 0
    """With the circuit open: until a call tries whether it is up again."""
    held_seconds: float = 0
    """How long every call waits, since the vendor asked for it."""
    pace: float = 1
    """What part of the vendor's rate is used; less than 1 after refusals."""
    waiting: int = 0
    """Calls that wait in the worker, for three seconds at most."""
    refusals: int = 0
    """Calls that the vendor refused for their rate, since the worker started."""
    sharers: int = 1
    """Workers among which the vendor's limits are shared, this one included."""
    limits: tuple[ProviderLimit, ...] = ()
    """The vendor's, over all workers; where it tells none but refused calls, this worker's own pace."""


class WorkerState(Contract):
    """What a worker says of itself."""

    providers: tuple[ProviderState, ...] = ()
