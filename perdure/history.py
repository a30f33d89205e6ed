"""Read a run's conversation and spec back from its Event History. Client and activity side.

Needs no worker: it decodes what perdure's activities recorded. The record of each message is unique, so this is
also the last resort of a model call whose worker can't ask the workflow.
"""

import json
from collections.abc import AsyncIterable, AsyncIterator, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from temporalio.api.common.v1 import Payload
from temporalio.api.enums.v1 import EventType, WorkflowTaskFailedCause
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import Client
from temporalio.converter import DataConverter

from perdure.contracts.answers import output_value
from perdure.contracts.bill import Bill, CarriedBill
from perdure.contracts.calls import (
    CallModelRequest,
    CallModelResult,
    CallToolRequest,
    CallToolResult,
    CompactRequest,
    CompactResult,
    CopyConversationRequest,
    CopyConversationResult,
    SlotMessage,
)
from perdure.contracts.compaction import CompactedPart, compacted
from perdure.contracts.messages import Message, repeat_result
from perdure.contracts.names import (
    AGENT_WORKFLOW,
    BILL_HEADER,
    CALL_MODEL,
    CALL_TOOL,
    COMPACT,
    COPY_CONVERSATION,
    LOAD_AGENT,
    MAIN_CONVERSATION,
    SELECT_AGENT,
    SEND_UPDATE,
)
from perdure.contracts.run import RunInput, RunResult, answer_message
from perdure.contracts.selection import Selection, SelectRequest
from perdure.contracts.spec import AgentSpec
from perdure.contracts.steering import SendRequest, WaitingMessage
from perdure.errors import StorageError

_REQUESTS: dict[str, type[Any]] = {
    CALL_MODEL: CallModelRequest,
    CALL_TOOL: CallToolRequest,
    COMPACT: CompactRequest,
    COPY_CONVERSATION: CopyConversationRequest,
    SELECT_AGENT: SelectRequest,
}
_RESULTS: dict[str, type[Any]] = {
    CALL_MODEL: CallModelResult,
    CALL_TOOL: CallToolResult,
    COMPACT: CompactResult,
    COPY_CONVERSATION: CopyConversationResult,
    LOAD_AGENT: AgentSpec,
    SELECT_AGENT: Selection,
}

Conversation = dict[int, Message]


@dataclass
class RecordedRun:
    """What Event History says about a run.

    Attributes:
        conversations: Messages by slot, by (conversation, epoch).
        specs: Pinned specs by digest.
        asked: Model calls, also those without a result, by (conversation, epoch, slot of the reply).
        model_results: Results of model calls, likewise.
        saved: Tool results, likewise, that were another call's.
        selections: The agents that it chose, in order.
        request: The run's input, when it is an agent's run.
        sent: Messages to the run that it took, or took over, by id, in order.
        delivered: The epochs and slots that those fill that are in the conversation.
        compactions: How a conversation's epoch was made of the one before, by (conversation, epoch).
        summaries: Results of the model calls that were asked for summaries.
        copied: Messages, by (conversation, epoch, slot), that it copied from another run.
        bill: What it, and those before it in its chain, paid; behind the last reset only.
    """

    conversations: dict[tuple[str, int], Conversation] = field(default_factory=dict[tuple[str, int], Conversation])
    specs: dict[str, AgentSpec] = field(default_factory=dict[str, AgentSpec])
    asked: dict[tuple[str, int, int], CallModelRequest] = field(
        default_factory=dict[tuple[str, int, int], CallModelRequest]
    )
    model_results: dict[tuple[str, int, int], CallModelResult] = field(
        default_factory=dict[tuple[str, int, int], CallModelResult]
    )
    saved: set[tuple[str, int, int]] = field(default_factory=set[tuple[str, int, int]])
    selections: list[Selection] = field(default_factory=list[Selection])
    request: RunInput | None = None
    sent: dict[str, WaitingMessage] = field(default_factory=dict[str, WaitingMessage])
    delivered: dict[str, tuple[int, int]] = field(default_factory=dict[str, tuple[int, int]])
    compactions: dict[tuple[str, int], tuple[CompactedPart, ...]] = field(
        default_factory=dict[tuple[str, int], tuple[CompactedPart, ...]]
    )
    summaries: list[CallModelResult] = field(default_factory=list[CallModelResult])
    copied: set[tuple[str, int, int]] = field(default_factory=set[tuple[str, int, int]])
    bill: Bill = field(default_factory=Bill)

    def conversation(self, name: str = MAIN_CONVERSATION, epoch: int | None = None) -> Conversation:
        """Return a conversation's slots; of its last epoch when none is given."""
        if epoch is None:
            epoch = max((e for (n, e) in self.conversations if n == name), default=0)
        return self.conversations.get((name, epoch), {})

    def put(self, conversation: str, epoch: int, slot: int, message: Message) -> None:
        """Enter a message."""
        self.conversations.setdefault((conversation, epoch), {})[slot] = message

    def compact(self, conversation: str, epoch: int, parts: tuple[CompactedPart, ...]) -> None:
        """Enter the epoch that was made of `epoch`."""
        if parts:
            before = self.conversations[(conversation, epoch)]
            messages = compacted([before[slot] for slot in range(len(before))], parts)
            self.conversations[(conversation, epoch + 1)] = dict(enumerate(messages))
            self.compactions[(conversation, epoch + 1)] = parts


async def read_run(client: Client, workflow_id: str, run_id: str | None = None) -> RecordedRun:
    """Read one run, open or closed.

    Raises:
        RPCError: Temporal's; NOT_FOUND for an unknown run.
    """
    handle = client.get_workflow_handle(workflow_id, run_id=run_id)
    return await decode_events(handle.fetch_history_events(), client.data_converter)


async def read_output(client: Client, workflow_id: str) -> Any:
    """Return the output of an agent's closed run from its last message.

    Raises:
        RPCError: Temporal's; NOT_FOUND for an unknown run.
    """
    run = await read_run(client, workflow_id)
    conversation = run.conversation()
    message = conversation[max(conversation)]
    spec = list(run.specs.values())[-1]  # of the agent that has the conversation at the end
    return output_value(spec, message)


@contextmanager
def readable_storage() -> Generator[None]:
    """Say what to do where a payload is in external storage that isn't configured here.

    Raises:
        StorageError: It can't be read here. Not retryable.
    """
    try:
        yield
    except (RuntimeError, ValueError) as error:
        problem = storage_problem(error)
        if problem is None:
            raise
        raise problem from None


def storage_problem(error: BaseException) -> StorageError | None:
    """Return what it means that the SDK can't read a payload from external storage; None for another error."""
    if "TMPRL1105" not in str(error) and not str(error).startswith("No driver found"):
        return None
    return StorageError(
        "The run has payloads in external storage, which isn't configured here: set [tool.perdure.storage] as its "
        f"worker has it. ({error})"
    )


async def decode_events(
    events: AsyncIterable[HistoryEvent] | AsyncIterator[HistoryEvent], converter: DataConverter
) -> RecordedRun:
    """Decode the events of one run, in order."""
    reader = RunReader(converter)
    async for event in events:
        await reader.read(event)
    return reader.run


class RunReader:
    """Decodes the events of one run, one by one.

    Attributes:
        run: What has been read so far.
        next_run_id: The run that continues this one; empty when there is none.
        latest: What the last event held, decoded; None where that was nothing of perdure's.
    """

    def __init__(self, converter: DataConverter) -> None:
        """Start with nothing read."""
        self.run = RecordedRun()
        self.next_run_id = ""
        self.latest: Any = None
        self._converter = converter
        self._scheduled: dict[int, tuple[str, Any]] = {}
        self._children: dict[int, RunInput] = {}
        self._known_before: set[str] = set()

    async def read(self, event: HistoryEvent) -> None:
        """Enter what an event says; most say nothing about the conversation."""
        self.latest = None
        match event.event_type:
            case EventType.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED:
                await self._started(event)
            case EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED:
                await self._activity_scheduled(event)
            case EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED:
                await self._activity_completed(event)
            case EventType.EVENT_TYPE_MARKER_RECORDED:
                await self._marker(event)
            case EventType.EVENT_TYPE_START_CHILD_WORKFLOW_EXECUTION_INITIATED:
                await self._child_initiated(event)
            case EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_COMPLETED:
                await self._child_completed(event)
            case EventType.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ACCEPTED:
                await self._update_accepted(event)
            case EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED:
                self._task_failed(event)
            case EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CONTINUED_AS_NEW:
                continued = event.workflow_execution_continued_as_new_event_attributes
                self.next_run_id = continued.new_execution_run_id
            case _:
                pass

    async def _decode(self, payloads: list[Payload], type_hint: type[Any]) -> Any:
        with readable_storage():
            self.latest = (await self._converter.decode(payloads[:1], [type_hint]))[0]
        return self.latest

    async def _started(self, event: HistoryEvent) -> None:
        started = event.workflow_execution_started_event_attributes
        if BILL_HEADER in started.header.fields:
            header, converter = started.header.fields[BILL_HEADER], self._converter.payload_converter
            self.run.bill = converter.from_payload(header, CarriedBill).bill
        if started.workflow_type.name != AGENT_WORKFLOW or not started.input.payloads:
            return
        request: RunInput = await self._decode(list(started.input.payloads), RunInput)
        self.run.request, self.run.bill = request, request.first_bill()
        inbox = request.inbox if request.carried is None else request.carried.inbox
        if inbox is not None:
            self.run.sent.update({each.id: each for each in inbox.waiting})
            self._known_before.update(inbox.known)
        if request.carried is None:
            self.run.put(MAIN_CONVERSATION, 0, 0, Message(role="user", parts=request.input))
        elif request.carried.fork is not None:
            for given in request.carried.fork.given:
                self.run.put(MAIN_CONVERSATION, request.carried.epoch, given.slot, given.message)

    def _task_failed(self, event: HistoryEvent) -> None:
        failed = event.workflow_task_failed_event_attributes
        if failed.cause == WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_RESET_WORKFLOW:
            self.run.bill = Bill()  # what is before that is on the bill of the run that was reset

    async def _update_accepted(self, event: HistoryEvent) -> None:
        accepted = event.workflow_execution_update_accepted_event_attributes.accepted_request.input
        if accepted.name != SEND_UPDATE:
            return
        request: SendRequest = await self._decode(list(accepted.args.payloads), SendRequest)
        if request.id in self._known_before:
            return  # a run before has it: sent once more, and answered as before
        self.run.sent.setdefault(request.id, WaitingMessage(id=request.id, parts=request.parts))

    async def _activity_scheduled(self, event: HistoryEvent) -> None:
        scheduled = event.activity_task_scheduled_event_attributes
        name = scheduled.activity_type.name
        if name not in _REQUESTS:
            return
        request = await self._decode(list(scheduled.input.payloads), _REQUESTS[name])
        self._scheduled[event.event_id] = (name, request)
        if isinstance(request, CallModelRequest) and request.summary is None:
            self.run.asked[(request.conversation, request.epoch, request.slots)] = request
        if isinstance(request, CallModelRequest | CompactRequest):
            for new in request.new:
                self._enter_new(request, new)

    def _enter_new(self, request: CallModelRequest | CompactRequest, new: SlotMessage) -> None:
        message = new.message
        if new.sent:
            message = self.run.sent[new.sent].message
            self.run.delivered[new.sent] = (request.epoch, new.slot)
        if new.same_as is not None:
            known = self.run.conversation(request.conversation, request.epoch)
            message = repeat_result(message, known[new.same_as])
            self.run.saved.add((request.conversation, request.epoch, new.slot))
        self.run.put(request.conversation, request.epoch, new.slot, message)

    def _enter_result(self, answer: CallToolResult, conversation: str, epoch: int, slot: int) -> None:
        self.run.put(conversation, epoch, slot, answer.message)
        if answer.is_saved:
            self.run.saved.add((conversation, epoch, slot))

    async def _activity_completed(self, event: HistoryEvent) -> None:
        completed = event.activity_task_completed_event_attributes
        name, request = self._scheduled.pop(completed.scheduled_event_id, ("", None))
        if name:
            self._enter(request, await self._decode(list(completed.result.payloads), _RESULTS[name]))

    async def _child_initiated(self, event: HistoryEvent) -> None:
        child = event.start_child_workflow_execution_initiated_event_attributes
        if child.workflow_type.name == AGENT_WORKFLOW:
            request: RunInput = await self._decode(list(child.input.payloads), RunInput)
            self._children[event.event_id] = request

    async def _child_completed(self, event: HistoryEvent) -> None:
        completed = event.child_workflow_execution_completed_event_attributes
        request = self._children.pop(completed.initiated_event_id, None)
        if request is None or request.answers is None:
            return
        result: RunResult = await self._decode(list(completed.result.payloads), RunResult)
        call = request.answers
        self.run.put(call.conversation, call.epoch, call.slot, answer_message(call, result))

    async def _marker(self, event: HistoryEvent) -> None:
        marker = event.marker_recorded_event_attributes
        if marker.marker_name != "core_local_activity" or "result" not in marker.details:
            return
        data = json.loads(marker.details["data"].payloads[0].data)
        name = str(data.get("activity_type", ""))
        if name in _RESULTS:
            result = await self._decode(list(marker.details["result"].payloads), _RESULTS[name])
            self._enter(None, result)

    def _enter_reply(self, asked: CallModelRequest, reply: CallModelResult) -> None:
        spec = self.run.specs.get(asked.spec)
        self.run.bill = self.run.bill.plus(spec.name if spec else "", reply.message.model, reply.usage)
        if asked.summary is not None:
            self.run.summaries.append(reply)
            self.run.compact(asked.conversation, asked.epoch, reply.compacted)
            return
        self.run.put(asked.conversation, asked.epoch, asked.slots, reply.message)
        self.run.model_results[(asked.conversation, asked.epoch, asked.slots)] = reply

    def _enter_page(self, asked: CopyConversationRequest, page: CopyConversationResult) -> None:
        for slot, message in enumerate(page.messages, page.start):
            self.run.put(asked.conversation, asked.epoch, slot, message)
            self.run.copied.add((asked.conversation, asked.epoch, slot))
        if page.spec is not None:
            self.run.specs[page.spec.digest] = page.spec

    def _enter(self, request: Any, result: Any) -> None:
        match request, result:
            case CallModelRequest() as asked, CallModelResult() as reply:
                self._enter_reply(asked, reply)
            case CompactRequest() as asked, CompactResult() as done:
                self.run.compact(asked.conversation, asked.epoch, done.compacted)
            case CallToolRequest() as asked, CallToolResult() as answer:
                self._enter_result(answer, asked.conversation, asked.epoch, asked.slot)
            case None, CallToolResult() as answer:
                self._enter_result(answer, answer.conversation, answer.epoch, answer.slot)
            case CopyConversationRequest() as asked, CopyConversationResult() as page:
                self._enter_page(asked, page)
            case _, Selection() as selection:
                self.run.selections.append(selection)
                self.run.bill = self.run.bill.plus("", selection.model, selection.usage)
            case None, AgentSpec() as spec:
                self.run.specs[spec.digest] = spec
            case _:
                pass
