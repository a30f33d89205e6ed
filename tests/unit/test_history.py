"""Reading a run back from the events that Temporal recorded of it."""

import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from temporalio.api.common.v1 import Payload
from temporalio.api.enums.v1 import EventType, WorkflowTaskFailedCause
from temporalio.api.history.v1 import HistoryEvent
from temporalio.contrib.pydantic import pydantic_data_converter

from perdure.client._show import count
from perdure.client._transcript import transcript
from perdure.client._watch import _consecutive
from perdure.contracts.bill import Bill, CarriedBill
from perdure.contracts.calls import (
    CallModelRequest,
    CallModelResult,
    CallToolRequest,
    CallToolResult,
    CopyConversationRequest,
    CopyConversationResult,
    SlotMessage,
)
from perdure.contracts.compaction import Room, SummaryAsk
from perdure.contracts.messages import Message, TextPart, ToolCallPart, tool_message, user_message
from perdure.contracts.names import BILL_HEADER, CALL_MODEL, CALL_TOOL, COPY_CONVERSATION, LOAD_AGENT
from perdure.contracts.run import Carried, Counters, RunInput
from perdure.contracts.spec import AgentSpec, ModelSpec
from perdure.contracts.usage import Usage
from perdure.history import RecordedRun, RunReader, decode_events

SPEC = AgentSpec(name="worker", models=(ModelSpec(name="x:y"),))
CALL = ToolCallPart(id="1", name="add", arguments="{}")
USAGE = Usage(input_tokens=5, output_tokens=7)
DIGEST = SPEC.digest


def payloads(*values: Any) -> Sequence[Payload]:
    return pydantic_data_converter.payload_converter.to_payloads(values)


def reply(text: str) -> Message:
    return Message(role="assistant", parts=(TextPart(text=text),))


class Recorder:
    """Writes events as the server does."""

    def __init__(self) -> None:
        self.events: list[HistoryEvent] = []

    def add(self, kind: EventType.ValueType) -> HistoryEvent:
        self.events.append(HistoryEvent(event_id=len(self.events) + 1, event_type=kind))
        return self.events[-1]

    def started(self, request: Any, name: str = "AgentWorkflow") -> None:
        event = self.add(EventType.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED)
        started = event.workflow_execution_started_event_attributes
        started.workflow_type.name = name
        started.input.payloads.extend([] if request is None else payloads(request))

    def scheduled(self, name: str, request: Any) -> int:
        event = self.add(EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED)
        scheduled = event.activity_task_scheduled_event_attributes
        scheduled.activity_type.name = name
        scheduled.input.payloads.extend(payloads(request))
        return event.event_id

    def completed(self, scheduled: int, result: Any) -> None:
        event = self.add(EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED)
        completed = event.activity_task_completed_event_attributes
        completed.scheduled_event_id = scheduled
        completed.result.payloads.extend(payloads(result))

    def called(self, name: str, request: Any, result: Any) -> None:
        self.completed(self.scheduled(name, request), result)

    def marker(self, activity: str, result: Any, *, name: str = "core_local_activity") -> None:
        event = self.add(EventType.EVENT_TYPE_MARKER_RECORDED)
        marker = event.marker_recorded_event_attributes
        marker.marker_name = name
        data = json.dumps({"seq": 1, "activity_type": activity}).encode()
        marker.details["data"].payloads.append(Payload(data=data))
        if result is not None:
            marker.details["result"].payloads.extend(payloads(result))

    async def read(self) -> RecordedRun:
        return await decode_events(self._each(), pydantic_data_converter)

    async def _each(self) -> AsyncIterator[HistoryEvent]:
        for event in self.events:
            yield event


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


def ask(slots: int, **options: Any) -> CallModelRequest:
    return CallModelRequest(spec=DIGEST, slots=slots, **options)


def answer(text: str, **options: Any) -> CallModelResult:
    return CallModelResult(message=reply(text), usage=USAGE, **options)


def tool_request(slot: int) -> CallToolRequest:
    return CallToolRequest(spec=DIGEST, call_slot=1, slot=slot, key="k", name="add")


def record_a_run(recorder: Recorder) -> None:
    recorder.started(RunInput(agent="worker", input=(TextPart(text="hi"),)))
    recorder.marker(LOAD_AGENT, SPEC)
    recorder.called(CALL_MODEL, ask(1), answer("call"))
    recorder.called(CALL_TOOL, tool_request(2), CallToolResult(slot=2, message=tool_message(CALL, "3")))
    recorder.marker(CALL_TOOL, CallToolResult(slot=3, message=tool_message(CALL, "4")))
    new = SlotMessage(slot=4, message=tool_message(CALL, "denied", outcome="denied"))
    recorder.called(CALL_MODEL, ask(5, new=(new,)), answer("done", problem="too short"))


async def test_a_run_is_read_back(recorder: Recorder) -> None:
    record_a_run(recorder)
    run = await recorder.read()
    assert run.specs == {DIGEST: SPEC}
    assert run.request is not None
    assert run.request.agent == "worker"
    roles = [run.conversation()[slot].role for slot in range(6)]
    assert roles == ["user", "assistant", "tool", "tool", "tool", "assistant"]
    assert run.conversation()[5].text == "done"
    assert run.model_results.keys() == {("main", 0, 1), ("main", 0, 5)}


async def test_a_transcript_says_what_each_message_took(recorder: Recorder) -> None:
    record_a_run(recorder)
    run = await recorder.read()
    run.put("side", 0, 0, user_message("of another conversation"))
    entries = transcript(run)
    assert [entry.slot for entry in entries] == list(range(6))
    assert [entry.usage for entry in entries] == [None, USAGE, None, None, None, USAGE]
    assert [entry.problem for entry in entries][4:] == ["", "too short"]
    assert transcript(RecordedRun()) == []


async def test_what_a_run_did_is_counted(recorder: Recorder) -> None:
    record_a_run(recorder)
    counted = count(await recorder.read())
    assert (counted.turns, counted.model_calls, counted.tool_calls) == (2, 2, 3)
    assert counted.usage.total_tokens == 24
    assert count(RecordedRun()) == Counters()


async def test_a_run_that_continues_another_starts_with_its_pages(recorder: Recorder) -> None:
    counters = Counters(turns=3, model_calls=3, tool_calls=1, usage=USAGE)
    carried = Carried(
        from_run_id="r0",
        spec=DIGEST,
        conversation_slots=3,
        started_at="2026-01-01T00:00:00Z",  # pyright: ignore[reportArgumentType]
        epoch=2,
        counters=counters,
    )
    recorder.started(RunInput(agent="worker", input=(TextPart(text="not a message"),), carried=carried))
    request = CopyConversationRequest(from_run_id="r0", spec=DIGEST, start=0, stop=3, epoch=2)
    page = CopyConversationResult(start=0, messages=(user_message("a"), tool_message(CALL, "b")), spec=SPEC)
    recorder.called(COPY_CONVERSATION, request, page)
    recorder.called(COPY_CONVERSATION, request, CopyConversationResult(start=2, messages=(user_message("c"),)))
    recorder.called(CALL_MODEL, ask(3, epoch=2), answer("d"))
    run = await recorder.read()
    assert run.specs == {DIGEST: SPEC}
    assert [run.conversation()[slot].text for slot in range(4)] == ["a", "", "c", "d"]
    assert run.conversation(epoch=0) == {}
    assert run.conversation("main", 2) is run.conversation()
    assert (count(run).turns, count(run).tool_calls) == (4, 1)


async def test_conversations_and_epochs_are_kept_apart() -> None:
    run = RecordedRun()
    for name, epoch in (("main", 0), ("main", 3), ("side", 5)):
        run.put(name, epoch, 0, user_message(f"{name} {epoch}"))
    assert run.conversation()[0].text == "main 3"
    assert run.conversation("side")[0].text == "side 5"
    assert run.conversation("main", 0)[0].text == "main 0"
    assert run.conversation("nobody") == {}


async def test_what_is_not_of_a_conversation_is_passed_over(recorder: Recorder) -> None:
    recorder.started({"theirs": 1}, name="Nightly")
    recorder.started(None)
    recorder.add(EventType.EVENT_TYPE_TIMER_STARTED)
    recorder.called("send_mail", {"to": "x"}, "sent")
    recorder.completed(999, "of nothing known")
    recorder.marker("send_mail", "sent")
    recorder.marker(LOAD_AGENT, None)
    recorder.marker(LOAD_AGENT, SPEC, name="core_patch")
    assert await recorder.read() == RecordedRun()


async def test_what_a_run_paid_is_known_by_agent_and_model(recorder: Recorder) -> None:
    record_a_run(recorder)
    other = CallModelResult(message=reply("x").model_copy(update={"model": "x:dear"}), usage=USAGE)
    recorder.called(CALL_MODEL, ask(6), other)
    summary = SummaryAsk(room=Room(target_tokens=10, tokens_per_byte=1), prompt_tokens=10)
    recorder.called(CALL_MODEL, ask(7, summary=summary), other)
    items = (await recorder.read()).bill.items
    assert [(item.agent, item.model, item.usage.total_tokens) for item in items] == [
        ("worker", "", 24),
        ("worker", "x:dear", 24),
    ]


async def test_a_reset_begins_a_new_bill(recorder: Recorder) -> None:
    """What is before it was paid by the run that was reset, and is on its bill."""
    record_a_run(recorder)
    failed = recorder.add(EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED).workflow_task_failed_event_attributes
    failed.cause = WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_WORKFLOW_WORKER_UNHANDLED_FAILURE
    assert (await recorder.read()).bill.usage.total_tokens == 24
    failed = recorder.add(EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED).workflow_task_failed_event_attributes
    failed.cause = WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_RESET_WORKFLOW
    recorder.called(CALL_MODEL, ask(6), answer("more"))
    assert (await recorder.read()).bill.usage.total_tokens == 12


async def test_a_workflow_that_goes_on_has_its_bill_in_a_header(recorder: Recorder) -> None:
    recorder.started({"theirs": 1}, name="Nightly")
    header = CarriedBill(bill=Bill().plus("a", "x:y", USAGE))
    started = recorder.events[0].workflow_execution_started_event_attributes
    started.header.fields[BILL_HEADER].CopyFrom(payloads(header)[0])
    assert (await recorder.read()).bill == header.bill


async def test_a_call_without_a_result_leaves_its_slot_empty(recorder: Recorder) -> None:
    recorder.started(RunInput(agent="worker", input=(TextPart(text="hi"),)))
    recorder.scheduled(CALL_MODEL, ask(2, new=(SlotMessage(slot=1, message=user_message("new")),)))
    assert (await recorder.read()).conversation().keys() == {0, 1}


async def test_the_next_run_is_known(recorder: Recorder) -> None:
    reader = RunReader(pydantic_data_converter)
    assert reader.next_run_id == ""
    event = recorder.add(EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CONTINUED_AS_NEW)
    event.workflow_execution_continued_as_new_event_attributes.new_execution_run_id = "r2"
    await reader.read(event)
    assert reader.next_run_id == "r2"


async def test_a_conversation_is_shown_up_to_the_first_gap(recorder: Recorder) -> None:
    run = RecordedRun()
    for slot in (0, 1, 3):
        run.put("main", 0, slot, user_message(str(slot)))
    assert [entry.slot for entry in _consecutive(run)] == [0, 1]
    assert _consecutive(RecordedRun()) == []
