"""An unexpected exception of workflow code has a type at the end; what Temporal needs passes."""

import asyncio

import pytest
from temporalio.exceptions import ApplicationError, CancelledError
from temporalio.workflow import ContinueAsNewError

from perdure.errors import AgentBug, LimitExceeded
from perdure.workflows._guard import typed_failures


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
