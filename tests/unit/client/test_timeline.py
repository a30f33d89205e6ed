"""What a run did and when, from stored histories and from events that are made up."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from temporalio.api.common.v1 import Payload
from temporalio.api.enums.v1 import EventType, TimeoutType, WorkflowTaskFailedCause
from temporalio.api.history.v1 import History, HistoryEvent
from temporalio.api.workflow.v1 import PendingActivityInfo
from temporalio.contrib.pydantic import pydantic_data_converter

from perdure.client import Step, Timeline, totals
from perdure.client._timeline.read import children_of, make_timeline
from perdure.client._timeline.sums import calls_of
from perdure.contracts.calls import CallModelRequest, CallModelResult
from perdure.contracts.messages import Message, TextPart
from perdure.contracts.names import CALL_MODEL
from perdure.contracts.run import Carried, Counters, RunInput, RunResult
from perdure.contracts.usage import Usage
from tests.support.histories import NAMES, load, read, stored

START = datetime(2026, 1, 1, tzinfo=UTC)


def told(steps: Iterable[Step], kind: str = "") -> list[tuple[str, str, str]]:
    return [(step.kind, step.name, step.outcome) for step in steps if kind in ("", step.kind)]


@pytest.mark.parametrize("name", NAMES)
async def test_every_stored_history_is_understood(name: str) -> None:
    timeline = await stored(name)
    steps = [*calls_of(timeline.steps)]
    assert timeline.unread == 0
    # A run may end before its timers do.
    assert not [step for step in steps if step.outcome == "open" and step.kind != "timer"], "the run is closed"
    assert all(step.ended_at is None or step.ended_at >= step.started_at for step in steps)
    assert all(step.started_at >= timeline.started_at - timedelta(seconds=1) for step in steps)


async def test_a_turn_holds_its_calls() -> None:
    timeline = await stored("tools-0")
    assert told(timeline.steps) == [
        ("activity", "perdure.load_agent", "ok"),
        ("turn", "turn 1", "ok"),
        ("turn", "turn 2", "ok"),
    ]
    turn = timeline.steps[1]
    assert (turn.agent, turn.model, turn.usage) == (
        "plain",
        "scripted:x",
        Usage(input_tokens=14, output_tokens=10),
    )
    assert sorted(told(turn.steps)) == [
        ("model", "scripted:x", "ok"),
        ("tool", "count", "ok"),
        ("tool", "fail", "error"),
        ("tool", "look", "ok"),
        ("tool", "nope", "error"),
    ]
    labels = {step.name: step.label for step in turn.steps}
    assert labels["look"] == "look(number=1)"
    assert labels["nope"] == "nope({})", "no activity was scheduled for a tool that isn't there"
    assert turn.steps[0].worker


async def test_a_chain_of_runs_is_one_timeline() -> None:
    names = [name for name in NAMES if name.startswith("continued-")]
    timeline = await stored(*names)
    turns = [step for step in timeline.steps if step.kind == "turn"]
    assert [turn.number for turn in turns] == list(range(1, 32))
    assert [link.outcome for link in timeline.links] == ["continued"] * 3 + ["ok"]
    assert told(timeline.steps, "continued") == [("continued", "continued as new", "ok")] * 3
    closing = load(names[-1]).events[-1].workflow_execution_completed_event_attributes
    result = pydantic_data_converter.payload_converter.from_payloads(closing.result.payloads, [RunResult])[0]
    sums = totals(timeline)
    assert sums.own.model_dump(
        include={"turns", "model_calls", "tool_calls", "usage"}
    ) == result.counters.model_dump(include={"turns", "model_calls", "tool_calls", "usage"})
    assert sums.tree == result.counters.usage


async def test_runs_of_a_chain_that_are_gone_still_count() -> None:
    timeline = await stored("continued-3")
    assert timeline.before is not None
    assert next(step.number for step in timeline.steps if step.kind == "turn") == timeline.before.turns + 1
    assert totals(timeline).own.turns == 31


async def test_calls_that_another_answered_are_told() -> None:
    timeline = await stored("saved-0")
    tools = [step for step in calls_of(timeline.steps) if step.kind == "tool"]
    assert [step.is_saved for step in tools] == [False, True, True]
    assert totals(timeline).own.saved_tool_calls == 2


async def test_child_runs_tell_what_they_used_without_being_read() -> None:
    timeline = await stored("plan-written-0")
    children = [*children_of(timeline.steps)]
    assert [(child.name, child.agent) for child in children] == [
        ("planner-1", "planner"),
        ("plan-1/a", "worker"),
        ("plan-1/b", "worker"),
        ("writer-1", "writer"),
    ]
    sums = totals(timeline)
    assert (sums.runs, sums.is_partial, sums.tree.total_tokens) == (4, True, 861)
    assert [row.name for row in sums.agents] == ["planner", "worker", "writer"]
    failed = [*children_of((await stored("map-node-0")).steps)][1]
    assert failed.outcome == "failed"
    assert failed.failure.startswith("UnexpectedModelBehavior: ")


async def test_agents_inside_of_a_workflow_of_ones_own() -> None:
    timeline = await stored("select-rules-0")
    agents = [step for step in timeline.steps if step.kind == "agent"]
    assert [(step.agent, len(step.steps)) for step in agents] == [("china", 1)] or agents[0].steps[
        0
    ].kind == "turn"
    assert timeline.agent == ""


async def test_a_cancelled_run() -> None:
    timeline = await stored("cancelled-0")
    assert timeline.status == "canceled"
    assert told(timeline.steps)[-2:] == [("turn", "turn 1", "canceled"), ("cancel", "cancel requested", "ok")]


class Events:
    """Writes events as the server does, a second apart."""

    def __init__(self) -> None:
        self.history = History()

    def add(self, kind: Any, **attributes: Any) -> HistoryEvent:
        event = self.history.events.add(event_id=len(self.history.events) + 1, event_type=kind)
        event.event_time.FromDatetime(START + timedelta(seconds=event.event_id))
        name = EventType.Name(kind).removeprefix("EVENT_TYPE_").lower() if kind < 1000 else ""
        if name:
            field = getattr(event, f"{name}_event_attributes")
            for key, value in attributes.items():
                target, _, leaf = key.rpartition("__")
                place = field
                for part in filter(None, target.split("__")):
                    place = getattr(place, part)
                if isinstance(value, list):
                    getattr(place, leaf).extend(value)
                else:
                    setattr(place, leaf, value)
            field.SetInParent()
        return event

    def start(self, request: Any = None, workflow: str = "Nightly") -> None:
        event = self.add(EventType.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED, workflow_type__name=workflow)
        if request is not None:
            event.workflow_execution_started_event_attributes.input.payloads.extend(payloads(request))

    def state(self, name: str) -> None:
        event = self.add(EventType.EVENT_TYPE_UPSERT_WORKFLOW_SEARCH_ATTRIBUTES)
        fields = event.upsert_workflow_search_attributes_event_attributes.search_attributes.indexed_fields
        fields["PerdureState"].CopyFrom(payloads(name)[0])

    def activity(self, name: str, *inputs: Any) -> int:
        event = self.add(
            EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED,
            activity_type__name=name,
            activity_id=str(len(self.history.events)),
            input__payloads=payloads(*inputs),
        )
        return event.event_id

    async def timeline(self) -> Timeline:
        return make_timeline("w", [await read(self.history)])


def payloads(*values: Any) -> list[Payload]:
    return list(pydantic_data_converter.payload_converter.to_payloads(values))


async def test_waits_are_what_the_run_says_of_its_state() -> None:
    events = Events()
    events.start()
    for state in ("working", "waiting_approval", "working", "paused", "waiting_for_the_moon"):
        events.state(state)
    events.add(EventType.EVENT_TYPE_WORKFLOW_EXECUTION_TERMINATED, reason="enough")
    timeline = await events.timeline()
    waits = [step for step in timeline.steps if step.kind == "wait"]
    assert [(step.name, step.took(timeline.end)) for step in waits] == [
        ("waiting_approval", timedelta(seconds=1)),
        ("paused", timedelta(seconds=1)),
        ("waiting_for_the_moon", timedelta(seconds=1)),
    ]
    assert (timeline.status, timeline.failure) == ("terminated", "enough")
    assert totals(timeline).waited == timedelta(seconds=3)


async def test_what_others_did_to_the_run() -> None:
    events = Events()
    events.start()
    events.add(EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED, signal_name="poke")
    update = events.add(
        EventType.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ACCEPTED,
        accepted_request__input__name="perdure.something_new",
    )
    events.add(
        EventType.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_COMPLETED,
        accepted_event_id=update.event_id,
        outcome__failure__message="no",
    )
    sent = events.add(EventType.EVENT_TYPE_SIGNAL_EXTERNAL_WORKFLOW_EXECUTION_INITIATED, signal_name="hi")
    events.add(EventType.EVENT_TYPE_SIGNAL_EXTERNAL_WORKFLOW_EXECUTION_FAILED, initiated_event_id=sent.event_id)
    events.add(EventType.EVENT_TYPE_WORKFLOW_TASK_TIMED_OUT, timeout_type=TimeoutType.TIMEOUT_TYPE_START_TO_CLOSE)
    cause = WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_NON_DETERMINISTIC_ERROR
    events.add(EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED, cause=cause, failure__message="differs")
    meanwhile = WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_UNHANDLED_COMMAND
    events.add(EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED, cause=meanwhile)
    events.add(EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED, cause=9999)
    nexus = events.add(EventType.EVENT_TYPE_NEXUS_OPERATION_SCHEDULED, service="pay", operation="book")
    events.add(EventType.EVENT_TYPE_NEXUS_OPERATION_COMPLETED, scheduled_event_id=nexus.event_id)
    timeline = await events.timeline()
    assert told(timeline.steps) == [
        ("signal", "poke", "ok"),
        ("update", "perdure.something_new", "failed"),
        ("sent", "hi", "failed"),
        ("task", "workflow task", "timed_out"),
        ("task", "workflow task", "failed"),
        ("task", "workflow task", "failed"),
        ("nexus", "pay.book", "ok"),
    ]
    assert timeline.steps[1].failure == "no"
    assert [step.failure for step in timeline.steps if step.kind == "task"][1:] == ["differs", "9999"]


async def test_what_this_version_does_not_know_is_shown_as_it_is() -> None:
    events = Events()
    events.start(workflow="AgentWorkflow")
    secret = Payload(metadata={"encoding": b"binary/encrypted"}, data=b"\x00\x01")
    begun = events.add(
        EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED, activity_type__name=CALL_MODEL, input__payloads=[secret]
    )
    begun.user_metadata.summary.CopyFrom(secret)
    completed = events.add(EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED, scheduled_event_id=begun.event_id)
    completed.activity_task_completed_event_attributes.result.payloads.append(secret)
    events.history.events.add(event_id=9, event_type=7777)  # pyright: ignore[reportArgumentType]
    events.activity("perdure.of_the_future", {"a": 1})
    timeline = await events.timeline()
    assert told(timeline.steps) == [("activity", CALL_MODEL, "ok"), ("activity", "perdure.of_the_future", "open")]
    assert timeline.unread == 2


async def test_an_open_call_has_its_attempts_from_the_server() -> None:
    events = Events()
    events.start(RunInput(agent="a"), "AgentWorkflow")
    events.activity(CALL_MODEL, CallModelRequest(spec="none", slots=1))
    reader = await read(events.history)
    pending = PendingActivityInfo(activity_id="1", attempt=4)
    pending.last_failure.message = "overloaded"
    reader.note_pending(pending)
    reader.note_pending(PendingActivityInfo(activity_id="unknown"))
    (turn,) = make_timeline("w", [reader]).steps
    assert (turn.outcome, turn.ended_at, turn.steps[0].attempts) == ("open", None, 4)
    assert turn.steps[0].failure == "overloaded"


async def test_a_run_that_was_started_again_goes_on_with_its_turns() -> None:
    first, second = Events(), Events()
    first.start(RunInput(agent="a"), "AgentWorkflow")
    first.add(EventType.EVENT_TYPE_WORKFLOW_EXECUTION_TERMINATED)
    carried = Carried(
        from_run_id="one",
        spec="s",
        conversation_slots=2,
        started_at=START,
        counters=Counters(turns=3, model_calls=3),
    )
    second.start(RunInput(agent="a", carried=carried), "AgentWorkflow")
    asked = second.activity(CALL_MODEL, CallModelRequest(spec="s", slots=2))
    reply = CallModelResult(
        message=Message(role="assistant", parts=(TextPart(text="x"),)), usage=Usage(input_tokens=1)
    )
    second.add(
        EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED, scheduled_event_id=asked, result__payloads=payloads(reply)
    )
    for event in second.history.events:
        event.event_time.seconds += 60
    chain = [await read(first.history, run_id="one"), await read(second.history, run_id="two")]
    timeline = make_timeline("w", chain)
    assert told(timeline.steps) == [("rerun", "started again", "ok"), ("turn", "turn 4", "ok")]
    assert timeline.before is None


async def test_a_thousand_turns() -> None:
    events = Events()
    events.start(RunInput(agent="a"), "AgentWorkflow")
    for turn in range(1000):
        asked = events.activity(CALL_MODEL, CallModelRequest(spec="s", slots=1 + turn))
        reply = CallModelResult(message=Message(role="assistant"), usage=Usage(input_tokens=1))
        events.add(
            EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED,
            scheduled_event_id=asked,
            result__payloads=payloads(reply),
        )
    timeline = await events.timeline()
    assert len(timeline.steps) == 1000
    assert totals(timeline).own.turns == 1000
