"""Events of the run itself: its ends, timers, signals, updates, waits, workflow tasks that failed. Client side."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from temporalio.api.enums.v1 import EventType, TimeoutType, WorkflowTaskFailedCause
from temporalio.api.history.v1 import HistoryEvent

from perdure.client._timeline.book import why
from perdure.client._timeline.plans import note_applied, note_input, note_update
from perdure.client._timeline.reading import Reading, ends

_STATE = "PerdureState"
_MEANWHILE = ("UNHANDLED_COMMAND", "FORCE_CLOSE_COMMAND")
"""Something came while the task was done: the server has it done again, as it should."""
_RUN_ENDS = ends(
    "WORKFLOW_EXECUTION", ("completed", "failed", "canceled", "timed_out", "terminated", "continued_as_new")
)
_NEXUS_ENDS = ends("NEXUS_OPERATION", ("completed", "failed", "canceled", "timed_out"))


async def on_start(run: Reading, event: HistoryEvent, _: Any) -> None:
    run.started = event
    run.summary = await run.label(event)
    started = event.workflow_execution_started_event_attributes
    await note_input(run, started.workflow_type.name, started.input.payloads)


async def on_end(run: Reading, event: HistoryEvent, _: Any) -> None:
    run.closing = event
    _end_wait(run, event)


async def on_timer(run: Reading, event: HistoryEvent, _: Any) -> None:
    seconds = event.timer_started_event_attributes.start_to_fire_timeout.ToTimedelta().total_seconds()
    run.book.begin(event, "timer", f"timer of {seconds:g} s", label=await run.label(event))


async def on_timer_fired(run: Reading, event: HistoryEvent, _: Any) -> None:
    run.book.end(event.timer_fired_event_attributes.started_event_id, event, outcome="ok")


async def on_timer_canceled(run: Reading, event: HistoryEvent, _: Any) -> None:
    run.book.end(event.timer_canceled_event_attributes.started_event_id, event, outcome="canceled")


async def on_signal(run: Reading, event: HistoryEvent, _: Any) -> None:
    signalled = event.workflow_execution_signaled_event_attributes
    run.book.mark(event, "signal", signalled.signal_name, worker=signalled.identity)


async def on_sent(run: Reading, event: HistoryEvent, _: Any) -> None:
    sent = event.signal_external_workflow_execution_initiated_event_attributes
    run.book.begin(event, "sent", sent.signal_name, workflow_id=sent.workflow_execution.workflow_id)


async def on_sent_done(run: Reading, event: HistoryEvent, _: Any) -> None:
    done = event.external_workflow_execution_signaled_event_attributes
    run.book.end(done.initiated_event_id, event, outcome="ok")


async def on_sent_failed(run: Reading, event: HistoryEvent, _: Any) -> None:
    failed = event.signal_external_workflow_execution_failed_event_attributes
    text = "there is no such run, or it is closed"
    run.book.end(failed.initiated_event_id, event, outcome="failed", failure=text)


async def on_update(run: Reading, event: HistoryEvent, _: Any) -> None:
    request = event.workflow_execution_update_accepted_event_attributes.accepted_request
    run.book.begin(event, "update", request.input.name or "update", worker=request.meta.identity)
    await note_update(run, event.event_id, request.input.name, request.input.args.payloads)


async def on_update_done(run: Reading, event: HistoryEvent, _: Any) -> None:
    completed = event.workflow_execution_update_completed_event_attributes
    failure = completed.outcome.failure if completed.outcome.HasField("failure") else None
    facts = {"outcome": "ok"} if failure is None else {"outcome": "failed", "failure": why(failure)}
    if failure is None:
        note_applied(run, completed.accepted_event_id)
    run.book.end(completed.accepted_event_id, event, **facts)


async def on_cancel(run: Reading, event: HistoryEvent, _: Any) -> None:
    asked = event.workflow_execution_cancel_requested_event_attributes
    run.book.mark(event, "cancel", "cancel requested", worker=asked.identity)


async def on_task_failed(run: Reading, event: HistoryEvent, _: Any) -> None:
    failed = event.workflow_task_failed_event_attributes
    cause = _word(WorkflowTaskFailedCause, failed.cause, "WORKFLOW_TASK_FAILED_CAUSE_")
    if cause == "RESET_WORKFLOW":
        run.book.mark(event, "rerun", "reset", label=failed.failure.message)
    elif cause not in _MEANWHILE:
        text = why(failed.failure) or cause.lower().replace("_", " ")
        facts = {"outcome": "failed", "failure": text, "worker": failed.identity}
        run.book.mark(event, "task", "workflow task", **facts)


async def on_task_timed_out(run: Reading, event: HistoryEvent, _: Any) -> None:
    kind = event.workflow_task_timed_out_event_attributes.timeout_type
    is_begun = kind == TimeoutType.TIMEOUT_TYPE_START_TO_CLOSE
    text = "the worker didn't finish it" if is_begun else "the worker that had the run in memory didn't take it"
    run.book.mark(event, "task", "workflow task", outcome="timed_out", failure=text)


async def on_attributes(run: Reading, event: HistoryEvent, _: Any) -> None:
    """Enter that the run waits, or waits no longer: it tells whoever lists runs."""
    fields = event.upsert_workflow_search_attributes_event_attributes.search_attributes.indexed_fields
    if _STATE not in fields:
        return
    state = run.attribute(fields[_STATE])
    _end_wait(run, event)
    if state in ("paused", "idle") or state.startswith("waiting"):
        run.book.begin(event, "wait", state)
        run.open_wait = event.event_id


def _end_wait(run: Reading, event: HistoryEvent) -> None:
    if run.open_wait:
        run.book.end(run.open_wait, event, outcome="ok")
        run.open_wait = 0


async def on_pause(run: Reading, event: HistoryEvent, _: Any) -> None:
    run.book.mark(event, "signal", "paused by Temporal")


async def on_unpause(run: Reading, event: HistoryEvent, _: Any) -> None:
    run.book.mark(event, "signal", "unpaused by Temporal")


async def on_nexus(run: Reading, event: HistoryEvent, _: Any) -> None:
    asked = event.nexus_operation_scheduled_event_attributes
    run.book.begin(event, "nexus", f"{asked.service}.{asked.operation}", label=await run.label(event))


async def on_nexus_end(run: Reading, event: HistoryEvent, _: Any) -> None:
    word, outcome = _NEXUS_ENDS[event.event_type]
    attributes = getattr(event, f"nexus_operation_{word}_event_attributes")
    facts = {"failure": why(attributes.failure)} if word in ("failed", "timed_out") else {}
    run.book.end(attributes.scheduled_event_id, event, outcome=outcome, **facts)


def _word(kind: Any, value: int, prefix: str) -> str:
    """Return the name of a value of an enumeration, or its number where this version has no name for it."""
    try:
        return str(kind.Name(value)).removeprefix(prefix)
    except ValueError:
        return str(value)


HANDLERS: Mapping[int, Callable[[Reading, HistoryEvent, Any], Awaitable[None]]] = {
    **dict.fromkeys(_RUN_ENDS, on_end),
    **dict.fromkeys(_NEXUS_ENDS, on_nexus_end),
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED: on_start,
    EventType.EVENT_TYPE_TIMER_STARTED: on_timer,
    EventType.EVENT_TYPE_TIMER_FIRED: on_timer_fired,
    EventType.EVENT_TYPE_TIMER_CANCELED: on_timer_canceled,
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED: on_signal,
    EventType.EVENT_TYPE_SIGNAL_EXTERNAL_WORKFLOW_EXECUTION_INITIATED: on_sent,
    EventType.EVENT_TYPE_EXTERNAL_WORKFLOW_EXECUTION_SIGNALED: on_sent_done,
    EventType.EVENT_TYPE_SIGNAL_EXTERNAL_WORKFLOW_EXECUTION_FAILED: on_sent_failed,
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ACCEPTED: on_update,
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_COMPLETED: on_update_done,
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CANCEL_REQUESTED: on_cancel,
    EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED: on_task_failed,
    EventType.EVENT_TYPE_WORKFLOW_TASK_TIMED_OUT: on_task_timed_out,
    EventType.EVENT_TYPE_UPSERT_WORKFLOW_SEARCH_ATTRIBUTES: on_attributes,
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_PAUSED: on_pause,
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_UNPAUSED: on_unpause,
    EventType.EVENT_TYPE_NEXUS_OPERATION_SCHEDULED: on_nexus,
}
