"""Failures of workflow code end the run, with a type; they never retry a workflow task for ever. Workflow side."""

import asyncio
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from typing import Any, Generic, TypeVar

from temporalio import workflow
from temporalio.exceptions import ActivityError, FailureError, is_cancelled_exception

from perdure.errors import AgentBug, revive

T = TypeVar("T")

_CLEAN_UP_PATCH = "perdure.clean-up"


@contextmanager
def typed_failures() -> Generator[None]:
    """Turn an unexpected exception into AgentBug; failures, cancellation and Continue-As-New pass.

    Listing `Exception` in `workflow_failure_exception_types` would do that too, and would also fail every open
    run for good on a non-deterministic deploy, which this leaves to be rolled back.
    """
    try:
        yield
    except (FailureError, asyncio.CancelledError, workflow.ContinueAsNewError):
        raise
    except Exception as error:
        raise AgentBug(f"{type(error).__name__}: {error}") from error


@contextmanager
def typed_activity_failure() -> Generator[None]:
    """Turn an activity's failure for good into the perdure error that it carries; cancellation passes."""
    try:
        yield
    except ActivityError as error:
        if is_cancelled_exception(error) or error.cause is None:
            raise
        raise revive(error.cause) from None


async def bound_clean_up(work: "asyncio.Task[Any]", limit: timedelta) -> None:
    """Cancel `work` again for as long as it doesn't end, once it was cancelled: its clean-up has so much time.

    Runs that were cancelled before there was this clean up without a bound.
    """
    await workflow.wait_condition(lambda: work.cancelling() > 0)
    if not workflow.patched(_CLEAN_UP_PATCH):
        return
    while True:
        await asyncio.sleep(limit.total_seconds())
        work.cancel()


class CancelWatch:
    """Knows whether the task that made it was cancelled since.

    A call that is cancelled is waited for, and the wait uses the cancellation up: it may end with a result, or a
    failure, as if nobody had cancelled. Cancellations from before don't count: they are for cleaning up.
    """

    def __init__(self) -> None:
        """Watch the current task."""
        self._before = _cancellations()
        self._is_noticed = False

    def is_cancelled(self) -> bool:
        """Say so; asked in the same task."""
        return self._is_noticed or _cancellations() > self._before

    async def through(self, work: Awaitable[T]) -> T:
        """Await what takes a cancellation back, as the SDK does while a child run is being started."""
        return await _Watched(work, self._notice)

    def _notice(self) -> None:
        self._is_noticed = True

    def check(self, cause: BaseException | None = None) -> None:
        """Go on with the cancellation.

        Raises:
            CancelledError: There was one; from `cause`.
        """
        if self.is_cancelled():
            raise asyncio.CancelledError from cause


class _Watched(Generic[T]):
    """An awaitable that tells of each cancellation on its way in."""

    def __init__(self, work: Awaitable[T], on_cancel: Callable[[], None]) -> None:
        self._work = work
        self._on_cancel = on_cancel

    def __await__(self) -> Generator[Any, None, T]:
        steps = self._work.__await__()
        go_on: Callable[[], Any] = partial(next, steps)
        while True:
            try:
                awaited = go_on()
            except StopIteration as end:
                return end.value
            try:
                yield awaited
            except asyncio.CancelledError as error:
                self._on_cancel()
                go_on = partial(steps.throw, error)
            else:
                go_on = partial(next, steps)


def _cancellations() -> int:
    task = asyncio.current_task()
    return 0 if task is None else task.cancelling()
