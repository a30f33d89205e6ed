"""Asking a model, then its fallbacks. Workflow side."""

from collections.abc import Callable

from temporalio.exceptions import ActivityError, ApplicationError, is_cancelled_exception

from perdure.contracts.calls import CallModelRequest, CallModelResult
from perdure.contracts.spec import AgentSpec
from perdure.errors import AgentBug, ModelUnavailable, PerdureError, revive
from perdure.workflows._calls import call_model


async def ask_models(
    spec: AgentSpec, request: CallModelRequest, *, turn: int, show: Callable[[str], None]
) -> CallModelResult:
    """Return the reply of the first model that gives one.

    Raises:
        ModelUnavailable: None of them could be reached, or all refused for good. Not retryable.
    """
    for index, model in enumerate(spec.models):
        show(f"turn {turn} · waiting for {model.name}")
        try:
            return await call_model(spec, request.model_copy(update={"model": index}), turn=turn)
        except ActivityError as error:
            if is_cancelled_exception(error):
                raise
            if index + 1 == len(spec.models):
                raise _failure(error, model.name) from error
    raise AssertionError("unreachable: a spec has a model")


def _failure(error: ActivityError, model: str) -> PerdureError:
    cause = revive(error.cause) if error.cause is not None else error
    if isinstance(cause, ApplicationError):
        if cause.type == "AgentBug":
            return AgentBug(cause.message)
        details = dict(cause.attributes) if isinstance(cause, PerdureError) else {}
        return ModelUnavailable(f"{model}: {cause.message}", model=model, cause=cause.type, **details)
    return ModelUnavailable(f"{model} did not answer in time: {cause}", model=model, cause="timeout")
