"""Events of activities and child runs: what perdure's own recorded is decoded. Client side.

Of all others the type, the times and the summary are enough.
"""

import json
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent

from perdure.client._children import time_of
from perdure.client._timeline.book import outcome_of, why
from perdure.client._timeline.plans import note_answer, note_planner
from perdure.client._timeline.reading import Reading, ends
from perdure.contracts.calls import (
    CallModelRequest,
    CallModelResult,
    CallToolRequest,
    CallToolResult,
    RunToolRequest,
    VerifyRequest,
)
from perdure.contracts.map import MapPage, MapResult
from perdure.contracts.messages import Message, ToolResultPart
from perdure.contracts.names import AGENT_WORKFLOW, CALL_TOOL, MAP_NODE, MAP_WORKFLOW, RUN_TOOL, VERIFY
from perdure.contracts.run import RunInput, RunResult
from perdure.contracts.selection import Selection
from perdure.contracts.texts import one_line
from perdure.contracts.usage import NO_USAGE

_REQUESTS: Mapping[str, type[Any]] = {RUN_TOOL: RunToolRequest, VERIFY: VerifyRequest}
_RESULTS: Mapping[str, type[Any]] = {AGENT_WORKFLOW: RunResult, MAP_NODE: MapPage, MAP_WORKFLOW: MapResult}
_ACTIVITY_ENDS = ends("ACTIVITY_TASK", ("failed", "canceled", "timed_out"))
_CHILD_ENDS = ends("CHILD_WORKFLOW_EXECUTION", ("completed", "failed", "canceled", "timed_out", "terminated"))


async def on_activity(run: Reading, event: HistoryEvent, held: Any) -> None:
    scheduled = event.activity_task_scheduled_event_attributes
    name = scheduled.activity_type.name
    run.activities[scheduled.activity_id] = event.event_id
    label = await run.label(event)
    if held is None and name in _REQUESTS:
        held = await run.decode(scheduled.input.payloads, _REQUESTS[name])
    book = run.book
    match held:
        case CallModelRequest():
            agent, model = _who(run, held)
            slot = held.slots if held.summary is None else None
            book.begin(event, "model", model or name, label=label, slot=slot, agent=agent, model=model)
            _enter_new(run, event, held)
            if slot is not None:
                book.ask(event.event_id, (held.conversation, held.epoch, slot))
        case CallToolRequest():
            book.begin(event, "tool", held.name, label=label, slot=held.slot)
            book.answer(event.event_id, (held.conversation, held.epoch, held.slot), asked_by=held.call_slot)
        case RunToolRequest():
            book.begin(event, "tool", held.tool.name, label=label)
        case VerifyRequest():
            book.begin(event, "activity", "verify", label=label)
            book.ask(event.event_id, (held.conversation, held.epoch, held.slot))
        case _:
            book.begin(event, "activity", name, label=label)


def _who(run: Reading, request: CallModelRequest) -> tuple[str, str]:
    """Return the agent that asks a model, and the model."""
    spec = run.reader.run.specs.get(request.spec)
    if spec is None:
        return "", ""
    own = spec.compaction.model if spec.compaction is not None and request.summary is not None else None
    models = spec.models if own is None else (own,)
    return spec.name, models[request.model].name if request.model < len(models) else ""


def _enter_new(run: Reading, event: HistoryEvent, request: CallModelRequest) -> None:
    """Enter what the workflow says of tool calls that it answered itself."""
    conversation = run.reader.run.conversation(request.conversation, request.epoch)
    for new in request.new:
        for part in new.message.parts:
            if isinstance(part, ToolResultPart):
                run.book.enter_result(
                    event,
                    part.name,
                    label=_asked(conversation, new.slot, part),
                    outcome=part.outcome,
                    fills=(request.conversation, request.epoch, new.slot),
                    is_saved=new.same_as is not None,
                )


def _asked(conversation: Mapping[int, Message], slot: int, result: ToolResultPart) -> str:
    """Return the call that a result answers, from the last message before it that asks for any."""
    before = (conversation[each] for each in range(slot - 1, -1, -1) if each in conversation)
    calls = next((message.tool_calls for message in before if message.tool_calls), ())
    return next((f"{call.name}({one_line(call.arguments)})" for call in calls if call.id == result.call_id), "")


async def on_activity_start(run: Reading, event: HistoryEvent, _: Any) -> None:
    started = event.activity_task_started_event_attributes
    run.book.change(
        started.scheduled_event_id,
        attempts=max(started.attempt, 1),
        tried_at=time_of(event.event_time),
        worker=started.identity,
        failure=why(started.last_failure) if started.HasField("last_failure") else "",
    )


async def on_activity_done(run: Reading, event: HistoryEvent, held: Any) -> None:
    completed = event.activity_task_completed_event_attributes
    known = run.book.steps.get(completed.scheduled_event_id)
    if held is None and known is not None and known.kind == "tool":
        held = await run.decode(completed.result.payloads, CallToolResult)
    run.book.end(completed.scheduled_event_id, event, **_result_facts(held))


async def on_activity_end(run: Reading, event: HistoryEvent, _: Any) -> None:
    word, outcome = _ACTIVITY_ENDS[event.event_type]
    attributes = getattr(event, f"activity_task_{word}_event_attributes")
    facts = {"failure": why(attributes.failure)} if word != "canceled" else {}
    run.book.end(attributes.scheduled_event_id, event, outcome=outcome, **facts)


async def on_marker(run: Reading, event: HistoryEvent, held: Any) -> None:
    """Enter a local activity: it is recorded when it is over, with when it began."""
    marker = event.marker_recorded_event_attributes
    if marker.marker_name != "core_local_activity" or not marker.details["data"].payloads:
        return
    data = json.loads(marker.details["data"].payloads[0].data)
    name = str(data.get("activity_type", ""))
    is_tool = name in (CALL_TOOL, RUN_TOOL)
    if held is None and is_tool:
        held = await run.decode(marker.details["result"].payloads, CallToolResult)
    facts = {"label": await run.label(event), **_result_facts(held)}
    if marker.HasField("failure"):
        facts |= {"outcome": outcome_of(marker.failure), "failure": why(marker.failure)}
    at = time_of(event.event_time)
    begun = _stamp(data.get("original_schedule_time")) or at
    run.book.begin(
        event,
        "tool" if is_tool else "activity",
        _tool_of(held) if is_tool else name,
        started_at=begun,
        ended_at=max(begun, _stamp(data.get("complete_time")) or at),
        attempts=max(int(data.get("attempt", 1)), 1),
        **facts,
    )
    if isinstance(held, CallToolResult) and name == CALL_TOOL:
        run.book.change(event.event_id, slot=held.slot)
        run.book.answer(event.event_id, (held.conversation, held.epoch, held.slot))


async def on_child(run: Reading, event: HistoryEvent, held: Any) -> None:
    child = event.start_child_workflow_execution_initiated_event_attributes
    request = held if isinstance(held, RunInput) else None
    run.book.begin(
        event,
        "child",
        child.workflow_id.removeprefix(f"{run.workflow_id}/"),
        label=await run.label(event),
        workflow_id=child.workflow_id,
        workflow=child.workflow_type.name,
        agent="" if request is None else request.agent,
    )
    note_planner(run, event.event_id, request)
    if request is not None and request.answers is not None:
        call = request.answers
        run.book.change(event.event_id, slot=call.slot)
        run.book.answer(event.event_id, (call.conversation, call.epoch, call.slot))


async def on_child_start(run: Reading, event: HistoryEvent, _: Any) -> None:
    started = event.child_workflow_execution_started_event_attributes
    at = time_of(event.event_time)
    run.book.change(started.initiated_event_id, run_id=started.workflow_execution.run_id, tried_at=at)


async def on_child_end(run: Reading, event: HistoryEvent, held: Any) -> None:
    word, outcome = _CHILD_ENDS[event.event_type]
    attributes = getattr(event, f"child_workflow_execution_{word}_event_attributes")
    known = run.book.steps.get(attributes.initiated_event_id)
    facts: dict[str, Any] = {}
    if word == "completed" and known is not None and known.workflow in _RESULTS:
        held = held or await run.decode(attributes.result.payloads, _RESULTS[known.workflow])
        facts = _child_facts(held)
        note_answer(run, attributes.initiated_event_id, held)
    elif word == "failed":
        facts = {"failure": why(attributes.failure)}
    run.book.end(attributes.initiated_event_id, event, outcome=outcome, **facts)


async def on_child_not_started(run: Reading, event: HistoryEvent, _: Any) -> None:
    failed = event.start_child_workflow_execution_failed_event_attributes
    run.book.end(failed.initiated_event_id, event, outcome="failed", failure="it could not be started")


def _result_facts(held: Any) -> dict[str, Any]:
    """Return what a decoded result says of its step."""
    facts: dict[str, Any] = {"outcome": "ok"}
    match held:
        case CallModelResult():
            facts |= {"usage": held.usage, "problem": held.problem, "is_saved": held.saved is not None}
            facts |= {"model": held.message.model} if held.message.model else {}
        case CallToolResult():
            outcomes = [part.outcome for part in held.message.parts if isinstance(part, ToolResultPart)]
            facts |= {"outcome": outcomes[0] if outcomes else "ok", "is_saved": held.is_saved}
        case Selection():
            facts |= {"label": f"{held.agent} by {held.strategy}: {held.why}"}
            facts |= {"usage": held.usage, "model": held.model} if held.usage != NO_USAGE else {}
        case _:
            pass
    return facts


def _child_facts(held: Any) -> dict[str, Any]:
    """Return what a child's result says of it."""
    match held:
        case RunResult():
            return {"usage": held.counters.usage, "model": held.model}
        case MapPage() | MapResult():
            return {"usage": held.usage}
        case _:
            return {}


def _tool_of(held: Any) -> str:
    parts = held.message.parts if isinstance(held, CallToolResult) else ()
    return next((part.name for part in parts if isinstance(part, ToolResultPart)), "tool")


def _stamp(value: Any) -> datetime | None:
    """Return a time that the SDK wrote into a marker."""
    if not isinstance(value, dict):
        return None
    seconds, nanos = (value.get(name, 0) for name in ("seconds", "nanos"))  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType]
    return datetime.fromtimestamp(float(seconds) + float(nanos) / 1e9, UTC)  # pyright: ignore[reportUnknownArgumentType]


HANDLERS: Mapping[int, Callable[[Reading, HistoryEvent, Any], Awaitable[None]]] = {
    **dict.fromkeys(_ACTIVITY_ENDS, on_activity_end),
    **dict.fromkeys(_CHILD_ENDS, on_child_end),
    EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED: on_activity,
    EventType.EVENT_TYPE_ACTIVITY_TASK_STARTED: on_activity_start,
    EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED: on_activity_done,
    EventType.EVENT_TYPE_MARKER_RECORDED: on_marker,
    EventType.EVENT_TYPE_START_CHILD_WORKFLOW_EXECUTION_INITIATED: on_child,
    EventType.EVENT_TYPE_START_CHILD_WORKFLOW_EXECUTION_FAILED: on_child_not_started,
    EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_STARTED: on_child_start,
}
