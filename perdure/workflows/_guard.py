"""Failures of workflow code end the run, with a type; they never retry a workflow task for ever. Workflow side."""

import asyncio
from collections.abc import Generator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from temporalio import workflow
from temporalio.exceptions import ActivityError, FailureError, is_cancelled_exception

from perdure.errors import AgentBug, revive

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

    def is_cancelled(self) -> bool:
        """Say so; asked in the same task."""
        return _cancellations() > self._before

    def check(self, cause: BaseException | None = None) -> None:
        """Go on with the cancellation.

        Raises:
            CancelledError: There was one; from `cause`.
        """
        if self.is_cancelled():
            raise asyncio.CancelledError from cause


def _cancellations() -> int:
    task = asyncio.current_task()
    return 0 if task is None else task.cancelling()
