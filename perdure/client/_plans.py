"""Plans at work, steered from outside. Client side."""

from collections.abc import Awaitable

from perdure.contracts.plan import PlanStatus
from perdure.errors import RunNotFoundError


async def steered(workflow_id: str, call: Awaitable[PlanStatus]) -> PlanStatus:
    """Return what an update of a plan gives; of a closed run, say what can be done with it.

    Raises:
        RunNotFoundError: There is no such run, or it is closed. Not retryable.
    """
    try:
        return await call
    except RunNotFoundError as error:
        if "is closed" not in error.message:
            raise
        raise RunNotFoundError(
            f"The run {workflow_id!r} is closed, and its plan with it: `perdure rerun {workflow_id}` starts it "
            "again and keeps what is done."
        ) from None
