"""`gather`: several at once, with one way to fail and one to be cancelled. Workflow side."""

import asyncio
from collections.abc import Awaitable, Sequence
from inspect import iscoroutine
from typing import Literal, TypeVar, overload

from temporalio import workflow
from temporalio.exceptions import FailureError

from perdure.errors import PerdureError, TaskFailed, revive

T = TypeVar("T")


@overload
async def gather(
    *awaitables: Awaitable[T], on_error: Literal["fail"] = "fail", max_parallel: int | None = None
) -> list[T]: ...
@overload
async def gather(
    *awaitables: Awaitable[T], on_error: Literal["collect"], max_parallel: int | None = None
) -> list[T | PerdureError]: ...


async def gather(
    *awaitables: Awaitable[T], on_error: Literal["fail", "collect"] = "fail", max_parallel: int | None = None
) -> list[T] | list[T | PerdureError]:
    """Await several at once, and return their results in order.

    Unlike `asyncio.gather`, it never returns while one of them is still at work: a child run that was cancelled
    is waited for, so that its clean-up is not cut short by the end of its parent.

    Args:
        awaitables: `run_agent(...)`, activities, child workflows, timers, coroutines.
        on_error: `fail` cancels the rest at the first failure, and raises that; `collect` puts typed failures
            into the list.
        max_parallel: How many may be at work at once; all when None. Needs coroutines, since anything else has
            begun already.

    Raises:
        PerdureError: The first failure, when `on_error` is `fail`.
    """
    gate = asyncio.Semaphore(max_parallel or max(len(awaitables), 1))
    tasks = [asyncio.create_task(_through(gate, each)) for each in awaitables]
    if not tasks:
        return []
    try:
        until = asyncio.FIRST_EXCEPTION if on_error == "fail" else asyncio.ALL_COMPLETED
        await workflow.wait(tasks, return_when=until)
    except asyncio.CancelledError:
        await _cancel(tasks)
        raise
    if on_error == "collect":
        return [_result_or_failure(task) for task in tasks]
    failed = next((task for task in tasks if _failure(task) is not None), None)
    if failed is not None:
        await _cancel(tasks)
        failed.result()
    return [task.result() for task in tasks]


async def _through(gate: asyncio.Semaphore, awaitable: Awaitable[T]) -> T:
    try:
        await gate.acquire()
    except asyncio.CancelledError:
        if iscoroutine(awaitable):
            awaitable.close()
        raise
    try:
        return await awaitable
    finally:
        gate.release()


async def _cancel(tasks: Sequence["asyncio.Task[T]"]) -> None:
    """Cancel what is at work, and wait for its end; how each ended is looked at, else asyncio complains."""
    for task in tasks:
        task.cancel()
    await workflow.wait(tasks, return_when=asyncio.ALL_COMPLETED)
    for task in tasks:
        _failure(task)


def _failure(task: "asyncio.Task[T]") -> BaseException | None:
    if not task.done():
        return None
    return asyncio.CancelledError() if task.cancelled() else task.exception()


def _result_or_failure(task: "asyncio.Task[T]") -> T | PerdureError:
    error = _failure(task)
    if error is None:
        return task.result()
    return to_failure(error)


def to_failure(error: BaseException) -> PerdureError:
    """Return the perdure error in `error`; a defect, which is no failure of a step, is raised."""
    cause: BaseException | None = error
    while cause is not None:
        revived = revive(cause)
        if isinstance(revived, PerdureError):
            return revived
        cause = cause.__cause__
    if isinstance(error, FailureError | asyncio.CancelledError):
        return TaskFailed(str(error) or "cancelled", failure=type(error).__name__)
    raise error
