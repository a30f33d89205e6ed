"""`Clock`: when the time of a run is over, by its own limit or that of the root of its tree. Workflow side.

It bounds calls and waits: what is in flight ends with the time, by its timeout.
"""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import datetime, timedelta

from temporalio import workflow
from temporalio.exceptions import ActivityError, RetryState
from temporalio.exceptions import TimeoutError as TemporalTimeoutError

from perdure.contracts.budget import Amount, Ledger

LAST_CALL = timedelta(minutes=1)
"""What the last call of `on_limit="finish"` may take beyond the time: without any it could never be made."""
_LEAST = timedelta(milliseconds=1)


class LimitReached(Exception):
    """What comes next could exceed a limit; it was not done.

    Attributes:
        limit: Which, as `name=value`.
        need: The least that would help, where it is one of money, tokens or calls.
    """

    def __init__(self, limit: str, need: Amount | None = None) -> None:
        """Say which, as `name=value`."""
        super().__init__(limit)
        self.limit = limit
        self.need = need


class Clock:
    """Tells how much time is left.

    Args:
        find_own: Returns the run's own limit, as it is told, and when it is over; None where there is none.
        find_ledger: Returns the ledger, which knows of the time of those above; None where there is none.
    """

    def __init__(
        self, find_own: Callable[[], tuple[timedelta, datetime] | None], find_ledger: Callable[[], Ledger | None]
    ) -> None:
        """Ask these."""
        self._find_own = find_own
        self._find_ledger = find_ledger
        self._last_call_ends: datetime | None = None

    @property
    def deadline(self) -> datetime | None:
        """When the time is over; None where it has no bound."""
        own, inherited = self._find_own(), self._inherited
        times = [inherited] if own is None else [own[1], inherited]
        return min((each for each in times if each is not None), default=None)

    @property
    def limit(self) -> str:
        """The limit that ends it: the run's own, as `name=value`, or that of the root of its tree."""
        own, ledger = self._find_own(), self._find_ledger()
        if own is not None and own[1] == self.deadline:
            return f"wall_clock={own[0]}"
        lease = None if ledger is None else ledger.lease
        return "wall_clock" if lease is None else f"wall_clock of {lease.root or lease.parent}"

    @property
    def is_inherited(self) -> bool:
        """Whether it is the time of the root that ends first."""
        own = self._find_own()
        return self.deadline is not None and (own is None or own[1] != self.deadline)

    @property
    def _inherited(self) -> datetime | None:
        ledger = self._find_ledger()
        return None if ledger is None else ledger.ends_at

    @property
    def is_over(self) -> bool:
        """Whether it is."""
        deadline = self.deadline
        return deadline is not None and workflow.now() >= deadline

    @contextmanager
    def last_call(self) -> Generator[None]:
        """Give some time beyond, for the last call with all its attempts."""
        deadline = self.deadline
        self._last_call_ends = None if deadline is None else max(deadline, workflow.now()) + LAST_CALL
        try:
            yield
        finally:
            self._last_call_ends = None

    def left(self) -> timedelta | None:
        """Return how long the next call may take; None where nothing bounds it.

        Raises:
            LimitReached: The time is over.
        """
        deadline = self._last_call_ends or self.deadline
        if deadline is None:
            return None
        left = deadline - workflow.now()
        if left <= timedelta(0):
            raise LimitReached(self.limit)
        return max(left, _LEAST)

    @property
    def remaining(self) -> timedelta | None:
        """How long a wait may take, which ends with the time; None where nothing bounds it."""
        deadline = self.deadline
        return None if deadline is None else max(deadline - workflow.now(), _LEAST)

    @contextmanager
    def bounding(self, time: timedelta) -> Generator[timedelta | None]:
        """Bound an activity, which has `time` otherwise; yields how long it may take.

        Raises:
            LimitReached: The time is over, before it or with it.
        """
        within = self.left()
        try:
            yield within
        except ActivityError as error:
            if is_cut(error, time, within):
                raise LimitReached(self.limit) from error
            raise


def _nothing() -> None:
    return None


UNBOUNDED = Clock(_nothing, _nothing)
"""For what no limit of time holds for."""


def shorter(time: timedelta, within: timedelta | None) -> timedelta:
    """Return a time, or what is left where that is less."""
    return time if within is None else min(time, within)


def is_cut(error: ActivityError, time: timedelta, within: timedelta | None) -> bool:
    """Say whether an activity failed since it had only the time that was left, rather than `time`.

    Temporal also gives up at once where the next attempt would come too late.
    """
    if within is None or within >= time:
        return False
    return isinstance(error.cause, TemporalTimeoutError) or error.retry_state is RetryState.TIMEOUT
