"""In which order Temporal hands out the work of runs. Client side.

Activities, children and the runs that continue a run inherit what it was started with, so that nothing about it is
in perdure's commands.
"""

from hashlib import sha256
from typing import Final

from temporalio.common import Priority

from perdure.errors import InvalidInputError

HIGHEST: Final = 1
LOWEST: Final = 5
"""Temporal's default range; what is not said is 3."""

_MAX_KEY_BYTES = 64


def run_priority(workflow_id: str, *, tenant: str, priority: int | None) -> Priority:
    """Return the priority of a run and of all that is below it.

    Tenants share a Task Queue evenly, and runs without a tenant do, each with everything below it.

    Raises:
        InvalidInputError: `priority` is not 1 to 5. Not retryable.
    """
    if priority is not None and not HIGHEST <= priority <= LOWEST:
        raise InvalidInputError(f"A priority is {HIGHEST} (first) to {LOWEST} (last), not {priority}.")
    return Priority(priority_key=priority, fairness_key=_fairness_key(tenant or workflow_id))


def _fairness_key(text: str) -> str:
    """Return `text`, or its digest where it is longer than the server takes."""
    encoded = text.encode(errors="replace")
    return text if len(encoded) <= _MAX_KEY_BYTES else sha256(encoded).hexdigest()[:32]
