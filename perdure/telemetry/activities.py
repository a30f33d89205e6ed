"""The interceptor that traces and counts activities. Activity side.

Each attempt has one span, whose id follows from the run, the activity and the attempt. An attempt whose worker was
lost can't tell its own: the next one does, which knows from the heartbeat details which attempts have told theirs.
"""

import asyncio
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from temporalio import activity
from temporalio.converter import PayloadConverter
from temporalio.exceptions import ApplicationError
from temporalio.worker import ActivityInboundInterceptor, ActivityOutboundInterceptor, ExecuteActivityInput

from perdure.contracts import span_names as names
from perdure.contracts.call_spans import describe_call
from perdure.contracts.calls import CallModelResult, CallToolResult, Progress
from perdure.contracts.names import ASK_SHARED_MODEL, CALL_MODEL
from perdure.contracts.tracing import (
    TRACE_HEADER,
    AttributeValue,
    SpanFact,
    TraceContext,
    attempt_span_id,
    read_traceparent,
)
from perdure.telemetry.describe import content_attributes, result_attributes, tool_outcome
from perdure.telemetry.notes import CURRENT, CallNotes
from perdure.telemetry.setup import Telemetry

if TYPE_CHECKING:
    from opentelemetry.trace import Span

_OURS = "perdure."


@dataclass
class Attempt:
    """The attempt that runs."""

    info: activity.Info
    began_ns: int
    progress: Progress
    traced: int
    notes: CallNotes
    context: TraceContext | None
    """Of its span; None where it is not traced."""
    parent_id: str = ""

    @property
    def is_ours(self) -> bool:
        """Whether its heartbeats are perdure's."""
        return self.info.activity_type.startswith(_OURS) and not self.info.is_local


_ATTEMPT: ContextVar[Attempt | None] = ContextVar("perdure_attempt", default=None)


class ActivityTelemetry(ActivityInboundInterceptor):
    """Wraps every activity of a worker."""

    def __init__(self, next: ActivityInboundInterceptor, telemetry: Telemetry) -> None:
        """Tell what `telemetry` is for."""
        super().__init__(next)
        self._telemetry = telemetry

    def init(self, outbound: ActivityOutboundInterceptor) -> None:
        """Add to the heartbeats what the next attempt must know."""
        super().init(_Heartbeats(outbound))

    async def execute_activity(self, input: ExecuteActivityInput) -> Any:
        """Run the activity, then say how it went."""
        attempt = self._attempt(input)
        tokens = CURRENT.set(attempt.notes), _ATTEMPT.set(attempt)
        request = input.args[0] if input.args else None
        try:
            with self._open(attempt) as span:
                try:
                    result = await super().execute_activity(input)
                except BaseException as error:
                    self._over(attempt, span, request, None, error)
                    raise
                self._over(attempt, span, request, result, None)
                return result
        finally:
            CURRENT.reset(tokens[0])
            _ATTEMPT.reset(tokens[1])

    def _attempt(self, input: ExecuteActivityInput) -> Attempt:
        info = activity.info()
        header = input.headers.get(TRACE_HEADER)
        text = None if header is None else PayloadConverter.default.from_payload(header, str)
        caller = read_traceparent(text) if self._telemetry.spans is not None else None
        context = None
        if caller is not None and caller.is_sampled:
            run_id = info.workflow_run_id or info.activity_run_id or ""
            own = attempt_span_id(caller.trace_id, run_id, info.activity_id, info.attempt)
            context = caller._replace(span_id=own)
        progress = _progress(info)
        return Attempt(
            info=info,
            began_ns=time.time_ns(),
            progress=progress,
            traced=progress.traced,
            notes=CallNotes(),
            context=context,
            parent_id="" if caller is None else caller.span_id,
        )

    @contextmanager
    def _open(self, attempt: Attempt) -> Generator["Span | None"]:
        """Start the span of an attempt; what the activity traces itself comes below it."""
        spans = self._telemetry.spans
        if spans is None or attempt.context is None:
            yield None
            return
        from opentelemetry.trace import SpanKind

        from perdure.telemetry.spans import current

        span = spans.start(
            attempt.info.activity_type,
            attempt.context,
            attempt.parent_id,
            began_ns=attempt.began_ns,
            kind=SpanKind.CLIENT
            if attempt.info.activity_type in (CALL_MODEL, ASK_SHARED_MODEL)
            else SpanKind.INTERNAL,
            attributes=_place(attempt),
        )
        with current(span):
            yield span

    def _over(
        self, attempt: Attempt, span: "Span | None", request: object, result: object, error: BaseException | None
    ) -> None:
        """Say how an attempt went."""
        name, attributes = describe_call(attempt.info.activity_type, request, attempt.notes.spec)
        if attempt.notes.spec is not None:
            attributes[names.AGENT] = attempt.notes.spec.name
        failure = "" if error is None else _error_type(error)
        self._count(attempt, attributes, result, failure)
        spans = self._telemetry.spans
        if spans is None or span is None:
            return
        if _is_given_up():
            return  # the server counts it as lost, and the next attempt tells of it
        self._tell_lost(attempt, name, attributes)
        span.update_name(name)
        span.set_attributes({**attributes, **result_attributes(result)})
        if self._telemetry.has_content:
            span.set_attributes(content_attributes(attempt.notes, result, self._telemetry.redact))
        spans.end(span, error=failure)
        if error is not None and attempt.is_ours:
            attempt.traced = attempt.info.attempt
            activity.heartbeat(attempt.progress)

    def _tell_lost(self, attempt: Attempt, name: str, attributes: Mapping[str, AttributeValue]) -> None:
        """Tell the attempts before this one that could not do so themselves."""
        spans, context, info = self._telemetry.spans, attempt.context, attempt.info
        if spans is None or context is None or not attempt.is_ours:
            return
        last = attempt.progress if attempt.progress.attempt < info.attempt else Progress()
        began_ns = _ns(info.scheduled_time)
        for number in range(attempt.traced + 1, info.attempt):
            if number == last.attempt and last.began is not None:
                began_ns = _ns(last.began)
            is_latest = number == info.attempt - 1
            ended_ns = max(began_ns, _ns(info.current_attempt_scheduled_time)) if is_latest else began_ns
            run_id = info.workflow_run_id or info.activity_run_id or ""
            own = attempt_span_id(context.trace_id, run_id, info.activity_id, number)
            place = {**_place(attempt), names.ATTEMPT: number, names.IS_LOST: True}
            fact = SpanFact(
                name=name,
                context=context._replace(span_id=own),
                parent_id=attempt.parent_id,
                began_ns=began_ns,
                ended_ns=ended_ns,
                attributes={**attributes, **place},
                error="WorkerLost",
            )
            spans.tell(fact)
            began_ns = ended_ns
        attempt.traced = info.attempt - 1

    def _count(
        self, attempt: Attempt, attributes: Mapping[str, AttributeValue], result: object, failure: str
    ) -> None:
        metrics, operation = self._telemetry.metrics, attributes.get(names.OPERATION)
        if metrics is None or operation is None:
            return
        seconds = (time.time_ns() - attempt.began_ns) / 1e9
        labels = {name: value for name, value in attributes.items() if not isinstance(value, tuple)}
        if failure:
            labels[names.ERROR] = failure
        if operation == names.CHAT:
            metrics.model_call(labels, seconds, result if isinstance(result, CallModelResult) else None)
            return
        outcome = tool_outcome(result)
        metrics.tool_call(labels, seconds, is_error=bool(failure) or outcome not in ("", "ok"))
        if isinstance(result, CallToolResult) and result.is_saved:
            metrics.hit("shared")


class _Heartbeats(ActivityOutboundInterceptor):
    def heartbeat(self, *details: Any) -> None:
        attempt = _ATTEMPT.get()
        if attempt is not None and attempt.context is not None and attempt.is_ours and details:
            progress = Progress.model_validate(details[0])
            began = datetime.fromtimestamp(attempt.began_ns / 1e9, UTC)
            attempt.progress = progress.model_copy(
                update={"attempt": attempt.info.attempt, "began": began, "traced": attempt.traced}
            )
            details = (attempt.progress,)
        super().heartbeat(*details)


def _progress(info: activity.Info) -> Progress:
    if not info.heartbeat_details or not info.activity_type.startswith(_OURS):
        return Progress()
    return Progress.model_validate(info.heartbeat_details[0])


def _place(attempt: Attempt) -> dict[str, AttributeValue]:
    info = attempt.info
    found: dict[str, AttributeValue] = {names.ACTIVITY_ID: info.activity_id, names.ATTEMPT: info.attempt}
    if info.workflow_id is not None:
        found |= {names.WORKFLOW_ID: info.workflow_id, names.CONVERSATION: info.workflow_id}
        found[names.RUN_ID] = info.workflow_run_id or ""
    return found


def _is_given_up() -> bool:
    """Tell an attempt that the server counts as lost."""
    details = activity.cancellation_details()
    return details is not None and details.not_found and not details.cancel_requested


def _error_type(error: BaseException) -> str:
    if isinstance(error, asyncio.CancelledError):
        return "Cancelled"
    kind = error.type if isinstance(error, ApplicationError) else None
    return kind or type(error).__name__


def _ns(at: datetime) -> int:
    return int(at.timestamp()) * 1_000_000_000 + at.microsecond * 1000
