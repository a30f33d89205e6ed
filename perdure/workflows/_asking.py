"""Asking a model, then its fallbacks. Workflow side."""

from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta

from temporalio import workflow
from temporalio.exceptions import ActivityError, ApplicationError, is_cancelled_exception

from perdure.contracts.calls import CallModelRequest, CallModelResult
from perdure.contracts.spec import AgentSpec
from perdure.errors import AgentBug, ModelCallError, ModelUnavailable, PerdureError, UnsettledCallError, revive
from perdure.workflows._calls import call_model, model_time
from perdure.workflows._clock import UNBOUNDED, Clock, LimitReached, is_cut, shorter
from perdure.workflows._guard import CancelWatch
from perdure.workflows._host import current_host
from perdure.workflows._interruption import Interrupted, Interruption
from perdure.workflows._meter import Meter


class ContextTooLong(Exception):
    """A model says that the conversation is longer than its context window."""

    def __init__(self, model: str, failure: PerdureError) -> None:
        """Say which, and what the run fails with if no room can be made."""
        super().__init__(failure.message)
        self.model = model
        self.failure = failure


async def ask_models(
    spec: AgentSpec,
    request: CallModelRequest,
    *,
    turn: int,
    show: Callable[[str], None],
    meter: Meter | None = None,
    interruption: Interruption | None = None,
    clock: Clock = UNBOUNDED,
) -> CallModelResult:
    """Return the reply of the first model that gives one.

    Args:
        spec: The agent, with its models.
        request: What to ask; which model is set here.
        turn: For the eyes of whoever reads the history.
        show: Is told what is waited for.
        meter: Pays for it; None where no limit of money, tokens or calls holds.
        interruption: Stops it; None where nobody can.
        clock: Says how much time is left.

    Raises:
        Interrupted: Somebody stopped it, and there is nothing of a reply.
        LimitReached: The next attempt could exceed a limit, or the time is over.
        ContextTooLong: The prompt is too long for one of them, and the agent can make room.
        ModelUnavailable: None of them could be reached, or all refused for good. Not retryable.
        CancelledError: The run was cancelled, however the call then ended.
    """
    cancel, stop = CancelWatch(), interruption or Interruption()
    for index, model in enumerate(spec.models):
        await current_host().pause.passed()
        stop.check()
        show(f"turn {turn} · waiting for {model.name}")
        asked = request.model_copy(update={"model": index})
        within = clock.left()
        try:
            if meter is None:
                return await call_model(spec, asked, turn=turn, on_started=stop.watch, within=within)
            return await _ask_metered(spec, asked, turn=turn, meter=meter, stop=stop, clock=clock)
        except ActivityError as error:
            cancel.check(error)
            stop.check(error)
            if is_cancelled_exception(error):
                raise
            if spec.compaction is not None and _is_too_long(error):
                raise ContextTooLong(model.name, _failure(error, model.name)) from error
            if index + 1 == len(spec.models):
                if is_cut(error, model_time(spec), within):
                    raise LimitReached(clock.limit) from error
                raise _failure(error, model.name) from error
    raise AssertionError("unreachable: a spec has a model")


async def _ask_metered(
    spec: AgentSpec, request: CallModelRequest, *, turn: int, meter: Meter, stop: Interruption, clock: Clock
) -> CallModelResult:
    """Ask one model. Each attempt that may be billed has a reservation of its own."""
    until = workflow.now() + spec.settings.max_wait
    while True:
        await current_host().pause.passed()
        stop.check()
        hold = await meter.reserve(spec, request, within=clock.left())
        if stop.is_asked:
            meter.give_back(hold)
            raise Interrupted
        if meter.account.budget.bounds_money:
            bounds = {"max_prompt_tokens": hold.prompt_tokens, "max_output_tokens": hold.output_tokens}
            request = request.model_copy(update={"is_metered": True, **bounds})
        try:
            within = clock.left()
            result = await call_model(spec, request, turn=turn, on_started=stop.watch, within=within)
        except LimitReached:
            meter.give_back(hold)
            raise
        except BaseException as error:
            meter.settle_failure(hold, error)
            cause = revive(error.cause) if isinstance(error, ActivityError) and error.cause else error
            if not isinstance(cause, UnsettledCallError) or workflow.now() >= until:
                raise
            # What was new is recorded with the attempt before.
            request = request.model_copy(update={"tries": cause.tries, "new": ()})
            if cause.delay_seconds:
                left = clock.left()
                await _pause(shorter(timedelta(seconds=cause.delay_seconds), left), stop)
        else:
            meter.settle_reply(spec, request, hold, result)
            return result


async def _pause(time: timedelta, stop: Interruption) -> None:
    with suppress(TimeoutError):
        await workflow.wait_condition(lambda: stop.is_asked, timeout=time)


def _is_too_long(error: ActivityError) -> bool:
    cause = None if error.cause is None else revive(error.cause)
    return isinstance(cause, ModelCallError) and cause.kind == "context_too_long"


def _failure(error: ActivityError, model: str) -> PerdureError:
    cause = revive(error.cause) if error.cause is not None else error
    if isinstance(cause, ApplicationError):
        if cause.type == "AgentBug":
            return AgentBug(cause.message)
        details = dict(cause.attributes) if isinstance(cause, PerdureError) else {}
        return ModelUnavailable(f"{model}: {cause.message}", model=model, cause=cause.type, **details)
    return ModelUnavailable(f"{model} did not answer in time: {cause}", model=model, cause="timeout")
