"""Tells whoever asks how this worker stands. Activity side; owns no state.

It is asked by a standalone activity on a Task Queue that no other worker polls: see `perdure._task_queues`.
"""

from temporalio import activity

from perdure.contracts.names import DESCRIBE_WORKER
from perdure.contracts.workers import WorkerState
from perdure.providers._gate import Gates


class DescribingActivities:
    """Knows the gates of a worker."""

    def __init__(self, gates: Gates) -> None:
        """Tell of these."""
        self._gates = gates

    @activity.defn(name=DESCRIBE_WORKER)
    async def describe_worker(self) -> WorkerState:
        """Return limiters and circuits as they are now; no key is told."""
        return WorkerState(providers=tuple(self._gates.states()))
