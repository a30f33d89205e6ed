"""An unexpected exception of workflow code has a type at the end; what Temporal needs passes."""

import asyncio
from collections.abc import Awaitable

import pytest
from temporalio.exceptions import ApplicationError, CancelledError
from temporalio.workflow import ContinueAsNewError

from perdure.errors import AgentBug, LimitExceeded
from perdure.workflows._guard import CancelWatch, typed_failures


@pytest.mark.parametrize("error", [ValueError("odd"), KeyError("odd"), RuntimeError("odd"), RecursionError("odd")])
def test_a_defect_ends_the_run_with_a_type(error: Exception) -> None:
    with pytest.raises(AgentBug) as caught, typed_failures():
        raise error
    assert caught.value.message == f"{type(error).__name__}: {error}"
    assert caught.value.non_retryable
    assert caught.value.__cause__ is error


@pytest.mark.parametrize(
    "error",
    [
        ApplicationError("theirs"),
        LimitExceeded("ours"),
        CancelledError("Temporal's"),
        asyncio.CancelledError(),
        ContinueAsNewError.__new__(ContinueAsNewError),
        GeneratorExit(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_means_something_to_temporal_passes(error: BaseException) -> None:
    with pytest.raises(type(error)) as caught, typed_failures():
        raise error
    assert caught.value is error


def test_nothing_happens_without_an_error() -> None:
    with typed_failures():
        value = 1
    assert value == 1


async def _take_back() -> str:
    """Wait on after a cancellation, as the SDK does while a child run is being started."""
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        task = asyncio.current_task()
        assert task is not None
        task.uncancel()
        await asyncio.sleep(0)
    return "started"


async def _watched(work: Awaitable[str]) -> tuple[str, bool]:
    watch = CancelWatch()
    return await watch.through(work), watch.is_cancelled()


async def test_a_cancellation_that_is_taken_back_was_one() -> None:
    task = asyncio.create_task(_watched(_take_back()))
    await asyncio.sleep(0)
    task.cancel()
    assert await task == ("started", True)
    assert await _watched(asyncio.sleep(0, "done")) == ("done", False)


async def test_a_failure_comes_through() -> None:
    async def fail() -> str:
        await asyncio.sleep(0)
        raise ValueError("odd")

    with pytest.raises(ValueError, match="odd"):
        await _watched(fail())
