"""Which limits are shared by all that a run starts, and which are of each run. Client side."""

from perdure.contracts.limits import SHARED_LIMITS, Limits
from perdure.errors import InvalidInputError


def shared_part(limits: Limits) -> Limits:
    """Return the limits that a whole tree of runs shares."""
    return Limits(**{name: getattr(limits, name) for name in SHARED_LIMITS})


def without_shared(limits: Limits) -> Limits:
    """Return the limits that hold for each run by itself, and whether unknown prices are allowed."""
    return limits.model_copy(update=dict.fromkeys(set(SHARED_LIMITS) - {"allow_unknown_prices"}))


def only_shared(limits: Limits) -> Limits:
    """Return limits that a workflow which is no agent's run can have.

    Raises:
        InvalidInputError: There are others. Not retryable.
    """
    others = [name for name in Limits.model_fields if getattr(limits, name) is not None]
    others = [name for name in others if name not in SHARED_LIMITS]
    if others:
        raise InvalidInputError(
            f"{', '.join(others)} can't be shared: set it on the agents, or on the tasks. "
            f"What can be shared is {', '.join(SHARED_LIMITS[:-1])} and {SHARED_LIMITS[-1]}."
        )
    return limits
