"""The span of the run that a workflow is part of, and those below it that workflow code knows. Workflow side.

What is told leaves as plain data, through functions of the worker's, and only when it happens for the first time.
"""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Final, cast

from temporalio import workflow
from temporalio.api.common.v1 import Payload
from temporalio.exceptions import ActivityError, TimeoutError, TimeoutType
from temporalio.worker import StartActivityInput

from perdure.contracts import span_names as names
from perdure.contracts.call_spans import describe_call
from perdure.contracts.calls import CallModelRequest, Progress
from perdure.contracts.tracing import (
    CHAIN_HEADER,
    TRACE_HEADER,
    AttributeValue,
    RunSpan,
    SpanFact,
    TraceContext,
    attempt_span_id,
    read_run_span,
    read_traceparent,
    root_trace_id,
    span_id,
)
from perdure.workflows._calls import pinned_spec

TELL: Final = "perdure_tell_span"
"""Extern function that takes a `SpanFact`."""
IS_SAMPLED: Final = "perdure_is_sampled"
"""Extern function that says whether the trace of that id is kept."""

_IDLE = ("paused", "idle")
"""States in which a run waits too, beside `waiting_…`."""
_LOST = (TimeoutType.HEARTBEAT, TimeoutType.START_TO_CLOSE)


class RunTrace:
    """Tells the spans of one run."""

    def __init__(self, span: RunSpan) -> None:
        """Tell nothing yet."""
        self.span = span
        self._context = _payload(span.context.to_header())
        self._waits = 0
        self._waiting: tuple[str, datetime] | None = None

    def headers(self, given: Mapping[str, Payload]) -> Mapping[str, Payload]:
        """Return the headers of what the run starts."""
        return {**given, TRACE_HEADER: self._context}

    def successor_headers(self, given: Mapping[str, Payload]) -> Mapping[str, Payload]:
        """Return the headers of the run that this one continues as."""
        return {**given, CHAIN_HEADER: _payload(self.span.to_header())}

    def note_state(self, state: str) -> None:
        """Follow the state of the run: a wait is told when it is over."""
        if self._waiting is not None and self._waiting[0] != state:
            self._tell_wait(*self._waiting)
            self._waiting = None
        if self._waiting is None and (state.startswith("waiting") or state in _IDLE):
            self._waiting = (state, workflow.now())

    def tell_run(self, name: str, attributes: Mapping[str, AttributeValue], error: str) -> None:
        """Tell the span of the run, which is over."""
        if self._waiting is not None:
            self._tell_wait(*self._waiting)
        context, parent_id, began = self.span
        self._tell(name, context, parent_id, began, attributes, error)

    def look_for_lost(self, input: StartActivityInput, error: ActivityError, scheduled: datetime) -> None:
        """Tell the last attempt at an activity whose worker was lost: no attempt comes that could."""
        cause = error.cause
        if not isinstance(cause, TimeoutError) or not input.activity.startswith("perdure."):
            return
        details = cause.last_heartbeat_details
        progress = Progress.model_validate(details[0]) if details else Progress()
        if cause.type not in _LOST and progress.attempt <= progress.traced:
            return  # it waited for its next attempt
        attempt = max(progress.attempt, progress.traced + 1)
        context = self.span.context
        own = attempt_span_id(context.trace_id, workflow.info().run_id, error.activity_id, attempt)
        request = input.args[0] if input.args else None
        spec = pinned_spec(request.spec) if isinstance(request, CallModelRequest) else None
        name, attributes = describe_call(input.activity, request, spec)
        self._tell_below(
            name,
            own,
            progress.began or scheduled,
            {**attributes, names.ATTEMPT: attempt, names.IS_LOST: True, names.ACTIVITY_ID: error.activity_id},
            "WorkerLost",
        )

    def _tell_wait(self, state: str, since: datetime) -> None:
        self._waits += 1
        own = span_id(self.span.context.trace_id, "wait", workflow.info().run_id, self._waits)
        self._tell_below(f"wait {state.removeprefix('waiting_')}", own, since, {}, "")

    def _tell_below(
        self, name: str, own: str, since: datetime, attributes: Mapping[str, AttributeValue], error: str
    ) -> None:
        context = self.span.context
        self._tell(name, context._replace(span_id=own), context.span_id, to_ns(since), attributes, error)

    def _tell(
        self,
        name: str,
        context: TraceContext,
        parent_id: str,
        began_ns: int,
        attributes: Mapping[str, AttributeValue],
        error: str,
    ) -> None:
        if workflow.unsafe.is_replaying() or not context.is_sampled:
            return
        info = workflow.info()
        fact = SpanFact(
            name=name,
            context=context,
            parent_id=parent_id,
            began_ns=began_ns,
            ended_ns=max(began_ns, to_ns(workflow.now())),
            attributes={**attributes, names.WORKFLOW_ID: info.workflow_id, names.RUN_ID: info.run_id},
            error=error,
        )
        with workflow.unsafe.sandbox_unrestricted():
            workflow.extern_functions()[TELL](fact)


def run_span(headers: Mapping[str, Payload]) -> RunSpan:
    """Return the span of the workflow that begins: its predecessor's, else one below the caller's, else a root."""
    info = workflow.info()
    chain = read_run_span(_text(headers, CHAIN_HEADER))
    if chain is not None:
        return chain
    caller = read_traceparent(_text(headers, TRACE_HEADER))
    began = to_ns(info.workflow_start_time)
    if caller is not None:
        own = span_id(caller.trace_id, "run", info.run_id)
        return RunSpan(caller._replace(span_id=own), caller.span_id, began)
    trace_id = root_trace_id(info.namespace, info.workflow_id, info.first_execution_run_id)
    with workflow.unsafe.sandbox_unrestricted():
        ask = cast("Callable[[str], bool]", workflow.extern_functions()[IS_SAMPLED])
        is_sampled = ask(trace_id)
    return RunSpan(TraceContext(trace_id, span_id(trace_id, "run", info.run_id), is_sampled), "", began)


def to_ns(at: datetime) -> int:
    """Return nanoseconds since the epoch, to the microsecond."""
    return int(at.timestamp()) * 1_000_000_000 + at.microsecond * 1000


def _payload(text: str) -> Payload:
    return workflow.payload_converter().to_payload(text)


def _text(headers: Mapping[str, Payload], name: str) -> str | None:
    payload = headers.get(name)
    return None if payload is None else workflow.payload_converter().from_payload(payload, str)
