"""From where a run that is over can be started again. Client and activity side; pure but for reading histories.

An agent's run goes on from its last good turn: replies that could not be used, were refused or were cut off are
left out, with what was said of them. Results of tool calls are kept one by one. A call that may have taken effect,
of a tool that isn't idempotent, is not made again.
"""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

from temporalio.api.common.v1 import Payload
from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import Client
from temporalio.converter import DataConverter

from perdure.contracts.answers import is_answer
from perdure.contracts.calls import CallModelRequest, CallToolRequest
from perdure.contracts.map import MapSlice
from perdure.contracts.messages import Message
from perdure.contracts.names import AGENT_WORKFLOW, CALL_MODEL, CALL_TOOL, MAIN_CONVERSATION, MAP_NODE
from perdure.contracts.run import Carried, Counters, EarlierRun, ResumedCall, ResumedTurn, RunInput
from perdure.contracts.spec import AgentSpec
from perdure.contracts.steering import MAX_KNOWN_IDS, CarriedInbox
from perdure.contracts.usage import NO_USAGE
from perdure.history import Conversation, RunReader

_BAD_STOPS = ("refusal", "interrupted")
_UNBOUNDED = 1_000_000_000


class ResumeReader:
    """Takes in the history of a closed run.

    Attributes:
        runs: Its children, the last of each workflow id, those included that a map's node was told of.
    """

    def __init__(self, converter: DataConverter, run_id: str) -> None:
        """Start with nothing read."""
        self.runs: dict[str, EarlierRun] = {}
        self._reader = RunReader(converter)
        self._converter = converter
        self._run_id = run_id
        self._first_run_id = ""
        self._started_at = datetime.min.replace(tzinfo=UTC)
        self._closed_at = self._started_at
        self._asked: dict[int, CallModelRequest] = {}
        self._tool_calls: dict[int, str] = {}
        """Tools whose calls were begun, by the slot of the result."""
        self._answering: dict[int, tuple[int, str]] = {}
        """Slot and workflow id of a subagent's run, by the event that asked for it."""
        self._subagents: dict[int, EarlierRun] = {}

    async def read(self, event: HistoryEvent) -> None:
        """Take an event in."""
        self._closed_at = event.event_time.ToDatetime(tzinfo=UTC)
        await self._reader.read(event)
        match event.event_type:
            case EventType.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED:
                await self._read_start(event)
            case EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED:
                await self._read_call(event)
            case EventType.EVENT_TYPE_START_CHILD_WORKFLOW_EXECUTION_INITIATED:
                await self._read_child(event)
            case EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_STARTED:
                started = event.child_workflow_execution_started_event_attributes
                run = EarlierRun(
                    workflow_id=started.workflow_execution.workflow_id, run_id=started.workflow_execution.run_id
                )
                self.runs[run.workflow_id] = run
                if started.initiated_event_id in self._answering:
                    self._subagents[self._answering[started.initiated_event_id][0]] = run
            case _:
                pass

    async def _read_start(self, event: HistoryEvent) -> None:
        started = event.workflow_execution_started_event_attributes
        self._first_run_id = started.first_execution_run_id
        self._started_at = event.event_time.ToDatetime(tzinfo=UTC)
        if started.workflow_type.name == MAP_NODE:
            given: MapSlice = await self._decode(started.input.payloads, MapSlice)
            self.runs.update({run.workflow_id: run for run in given.earlier})

    async def _read_call(self, event: HistoryEvent) -> None:
        scheduled = event.activity_task_scheduled_event_attributes
        if scheduled.activity_type.name == CALL_MODEL:
            asked: CallModelRequest = await self._decode(scheduled.input.payloads, CallModelRequest)
            self._asked[asked.slots] = asked
        elif scheduled.activity_type.name == CALL_TOOL:
            call: CallToolRequest = await self._decode(scheduled.input.payloads, CallToolRequest)
            self._tool_calls[call.slot] = call.name

    async def _read_child(self, event: HistoryEvent) -> None:
        child = event.start_child_workflow_execution_initiated_event_attributes
        if child.workflow_type.name != AGENT_WORKFLOW:
            return
        request: RunInput = await self._decode(child.input.payloads, RunInput)
        if request.answers is not None:
            self._answering[event.event_id] = (request.answers.slot, child.workflow_id)

    async def _decode(self, payloads: Any, kind: type[Any]) -> Any:
        first: list[Payload] = list(payloads)[:1]
        return (await self._converter.decode(first, [kind]))[0]

    @property
    def request(self) -> RunInput:
        """The input of an agent's run."""
        assert self._reader.run.request is not None, "the history of a run begins with its input"
        return self._reader.run.request

    def carried(self) -> Carried | None:
        """Return from where an agent's run goes on; None where there is nothing to keep."""
        request = self._reader.run.request
        if request is None:
            return None
        before = request.carried
        conversation = self._reader.run.conversation()
        length = _filled(conversation)
        if before is not None and length < before.conversation_slots:
            # It ended before it had its own copy.
            resumed = before.resumed or ResumedTurn()
            inbox = self.inbox(before.conversation_slots)
            return before.model_copy(
                update={"resumed": resumed, "started_at": self._spent(before), "inbox": inbox}
            )
        length = self._good(conversation, length, copied=0 if before is None else before.conversation_slots)
        spec = self._spec(length, before)
        if length == 0 or spec is None or not any(conversation[n].role == "assistant" for n in range(length)):
            return None
        counters, length, turn = self._count(conversation, length, before)
        return Carried(
            from_run_id=self._run_id,
            spec=spec,
            conversation_slots=length,
            started_at=self._spent(before),
            epoch=max((epoch for _, epoch in self._reader.run.conversations), default=0),
            counters=counters,
            first_run_id=(before.first_run_id if before is not None else "") or self._first_run_id,
            resumed=turn,
            known_results=before.known_results if before is not None else (),
            inbox=self.inbox(length),
            answered_turns=before.answered_turns if before is not None else 0,
        )

    def inbox(self, length: int) -> CarriedInbox | None:
        """Return the messages to the run that are not in the first `length` slots of its conversation."""
        run = self._reader.run
        request = self.request
        before = request.inbox if request.carried is None else request.carried.inbox
        known = dict.fromkeys((*(before.known if before is not None else ()), *run.sent))
        waiting = [each for id, each in run.sent.items() if run.delivered.get(id, length) >= length]
        if not known:
            return None
        first = 0 if before is None else before.received - len(before.known)
        return CarriedInbox(
            waiting=tuple(waiting), received=first + len(known), known=tuple(known)[-MAX_KNOWN_IDS:]
        )

    def _spent(self, before: Carried | None) -> datetime:
        """Return a start from which the run has spent as much time as it had, without that since its end."""
        first = self._started_at if before is None else before.started_at
        return datetime.now(UTC) - max(self._closed_at - first, timedelta(0))

    def _good(self, conversation: Conversation, length: int, *, copied: int) -> int:
        """Return the length of the conversation up to its last good reply, with what the tools answered."""
        last = _last_reply(conversation, length)
        while last >= copied and self._is_bad(conversation[last], last):
            length = last
            while length > copied and _is_ours(conversation[length - 1]):
                length -= 1
            last = _last_reply(conversation, length)
        return length

    def _is_bad(self, reply: Message, slot: int) -> bool:
        epoch = max((epoch for _, epoch in self._reader.run.conversations), default=0)
        result = self._reader.run.model_results.get((MAIN_CONVERSATION, epoch, slot))
        if slot in self._asked and self._asked[slot].is_final:
            return True
        return (result is not None and bool(result.problem)) or reply.stop in _BAD_STOPS

    def _spec(self, length: int, before: Carried | None) -> str | None:
        """Return the digest of the spec that the conversation goes on with."""
        asked = [slots for slots in sorted(self._asked) if slots <= length]
        if asked:
            return self._asked[asked[-1]].spec
        return next(reversed(self._reader.run.specs), None) if before is not None else None

    def _count(
        self, conversation: Conversation, length: int, before: Carried | None
    ) -> tuple[Counters, int, ResumedTurn]:
        """Return the counters as they were, the slots to copy in one piece, and the turn to finish."""
        counters = before.counters if before is not None else Counters()
        made, path, agent = counters.tool_calls, list(counters.handoffs), ""
        start = 0 if before is None else before.conversation_slots
        replies = [n for n in range(length) if conversation[n].role == "assistant"]
        turn = ResumedTurn()
        if before is not None and before.resumed is not None and start and conversation[start - 1].tool_calls:
            replies = [start - 1, *(n for n in replies if n >= start)]
        else:
            replies = [n for n in replies if n >= start]
        for slot in replies:
            spec = self._reader.run.specs.get(self._spec(slot, before) or "")
            if spec is None:
                continue
            if agent and spec.name != agent:
                path.append(agent)
            agent = spec.name
            calls = _calls(spec, conversation[slot])
            is_open = slot == replies[-1] and any(slot + 1 + n not in conversation for n in range(len(calls)))
            if calls and is_open:
                turn = self._turn(spec, conversation, slot, len(calls), before)
                length = slot + 1
            else:
                room = max((spec.limits.max_tool_calls or _UNBOUNDED) - made, 0)
                made += min(len(calls), room)
        return self._add(counters, made, tuple(path), length), length, turn

    def _add(self, counters: Counters, made: int, handoffs: tuple[str, ...], length: int) -> Counters:
        """Return the counters of the run; what counts in a row, and what comes behind `length`, starts anew."""
        run = self._reader.run
        results = run.model_results.values()
        usage, saved_usage = counters.usage, counters.saved_usage
        for result in results:
            usage = usage + result.usage
            saved_usage = saved_usage + (result.saved or NO_USAGE)
        return Counters(
            turns=counters.turns + len(results),
            model_calls=counters.model_calls + len(results),
            tool_calls=made,
            usage=usage,
            handoffs=handoffs,
            saved_tool_calls=counters.saved_tool_calls + sum(slot < length for _, _, slot in run.saved),
            saved_model_calls=counters.saved_model_calls + sum(result.saved is not None for result in results),
            saved_usage=saved_usage,
        )

    def _turn(
        self, spec: AgentSpec, conversation: Conversation, slot: int, count: int, before: Carried | None
    ) -> ResumedTurn:
        answers = range(slot + 1, slot + 1 + count)
        unknown = set(before.resumed.unknown) if before is not None and before.resumed is not None else set[int]()
        for begun, name in self._tool_calls.items():
            tool = spec.tool(name)
            if tool is not None and not tool.idempotent:
                unknown.add(begun)
        gaps = [answer for answer in answers if answer not in conversation]
        return ResumedTurn(
            kept=tuple(answer for answer in answers if answer in conversation),
            unknown=tuple(gap for gap in gaps if gap in unknown),
            calls=tuple(ResumedCall(slot=gap, run=self._subagents[gap]) for gap in gaps if gap in self._subagents),
        )


async def read_closed(client: Client, run: EarlierRun) -> ResumeReader:
    """Read the history of a closed run.

    Raises:
        RPCError: Temporal's; NOT_FOUND for an unknown run.
    """
    reader = ResumeReader(client.data_converter, run.run_id)
    events: AsyncIterator[HistoryEvent] = client.get_workflow_handle(
        run.workflow_id, run_id=run.run_id
    ).fetch_history_events()
    async for event in events:
        await reader.read(event)
    return reader


def _filled(conversation: Conversation) -> int:
    """Return how many slots there are before the first gap."""
    length = 0
    while length in conversation:
        length += 1
    return length


def _last_reply(conversation: Conversation, length: int) -> int:
    return next((n for n in reversed(range(length)) if conversation[n].role == "assistant"), -1)


def _is_ours(message: Message) -> bool:
    """Say whether workflow code wrote a message about the reply before it, or the limit."""
    return message.role == "user" and bool(message.author)


def _calls(spec: AgentSpec, reply: Message) -> list[str]:
    """Return the tool calls that a reply makes; none where it answers or hands over."""
    names = [call.name for call in reply.tool_calls]
    tools = [spec.tool(name) for name in names]
    if is_answer(reply) or any(tool is not None and tool.handoff for tool in tools):
        return []
    return names
