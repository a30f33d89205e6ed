"""Forking: a new run that begins with the first turns of another. Both sides; what enters the fork's history."""

from perdure.contracts._base import Contract
from perdure.contracts.calls import SlotMessage
from perdure.contracts.spec import SpecChanges


class ForkedFrom(Contract):
    """Where a fork comes from, for whoever looks at it; it goes along when the fork continues as new."""

    workflow_id: str
    run_id: str
    """The run of the chain whose history has the turn."""
    turn: int
    """The last turn that was copied; 0 for none."""
    changes: tuple[str, ...] = ()
    """What is not as in the other run, in words."""


class Fork(Contract):
    """How the first run of a fork comes by its conversation."""

    workflow_id: str
    """The run that is forked; `Carried.from_run_id` is of its chain."""
    given: tuple[SlotMessage, ...] = ()
    """Messages in place of the other run's, and behind them: replaced results, and what the user says."""
    changes: SpecChanges | None = None
    """What is pinned anew."""
