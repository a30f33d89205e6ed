"""From where a run that is over can be started again. Client and activity side; pure but for reading histories.

An agent's run goes on from its last good turn: replies that could not be used, were refused or were cut off are
left out, with what was said of them. Results of tool calls are kept one by one. A call that may have taken effect,
of a tool that isn't idempotent, is not made again.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from temporalio.api.common.v1 import Payload
from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import Client
from temporalio.converter import DataConverter

from perdure.contracts.answers import is_answer
from perdure.contracts.bill import Bill
from perdure.contracts.budget import Amount
from perdure.contracts.calls import CallModelRequest, CallToolRequest
from perdure.contracts.compaction import moved_slots
from perdure.contracts.map import MapSlice
from perdure.contracts.messages import Message
from perdure.contracts.names import (
    AGENT_WORKFLOW,
    CALL_MODEL,
    CALL_TOOL,
    MAIN_CONVERSATION,
    MAP_NODE,
)
from perdure.contracts.run import Carried, Counters, EarlierRun, KnownResult, ResumedCall, ResumedTurn, RunInput
from perdure.contracts.spec import AgentSpec
from perdure.contracts.steering import MAX_KNOWN_IDS, CarriedInbox
from perdure.contracts.usage import NO_USAGE
from perdure.history import Conversation, RunReader
from perdure.spending import SpendingReader

_BAD_STOPS = ("refusal", "interrupted")
_UNBOUNDED = 1_000_000_000


@dataclass(frozen=True)
class _Base:
    """Where an epoch of the conversation begins, in this run."""

    made: int
    """Tool calls that were made before."""
    path: tuple[str, ...]
    """Agents that had the conversation before."""
    agent: str = ""
    """The one that has it, once that is known."""
    slots: int = 0
    """How many slots were there from the start: copied, or kept by a compaction."""
    epoch: int = 0
    spec: str | None = None
    """Digest of the spec that it begins with; None where the run's first counts."""


class ResumeReader:
    """Takes in the history of a closed run.

    Attributes:
        runs: Its children, the last of each workflow id.
        before: Of a map's node: the nodes before it whose items it goes on with.
    """

    def __init__(self, converter: DataConverter, run_id: str) -> None:
        """Start with nothing read."""
        self.runs: dict[str, EarlierRun] = {}
        self.before: tuple[EarlierRun, ...] = ()
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
        self._base = _Base(0, ())
        self._spending = SpendingReader(converter)

    async def read(self, event: HistoryEvent) -> None:
        """Take an event in."""
        self._closed_at = event.event_time.ToDatetime(tzinfo=UTC)
        await self._reader.read(event)
        await self._spending.read(event)
        self._note_epoch()
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
            self.before = given.earlier
        before = None if self._reader.run.request is None else self._reader.run.request.carried
        if before is not None:
            counters = before.counters
            self._base = _Base(
                counters.tool_calls, counters.handoffs, slots=before.conversation_slots, epoch=before.epoch
            )

    def _note_epoch(self) -> None:
        """Add up an epoch that a compaction ended: slots are other ones from here on."""
        epoch = max((epoch for _, epoch in self._reader.run.compactions), default=0)
        if epoch <= self._base.epoch:
            return
        before = self._reader.run.conversation(MAIN_CONVERSATION, epoch - 1)
        made, path, agent, _ = self._walk(before, self._replies(before, len(before)))
        self._base = _Base(
            made,
            path,
            agent,
            slots=len(self._reader.run.conversation(MAIN_CONVERSATION, epoch)),
            epoch=epoch,
            spec=self._spec(len(before)),
        )
        for known in (self._asked, self._tool_calls, self._answering, self._subagents):
            known.clear()

    async def _read_call(self, event: HistoryEvent) -> None:
        scheduled = event.activity_task_scheduled_event_attributes
        if scheduled.activity_type.name == CALL_MODEL:
            asked: CallModelRequest = await self._decode(scheduled.input.payloads, CallModelRequest)
            if asked.summary is None:
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

    @property
    def spent(self) -> Amount:
        """What the run, and those before it, have taken of the limits that they share with what is below them."""
        carried, before = self.carried(), self._before
        known = 0 if before is None else before.counters.tool_calls
        made = 0 if carried is None else carried.counters.tool_calls - known
        return self._spending.spent(self._reader.run.specs) + Amount(tool_calls=made)

    def carried(self) -> Carried | None:
        """Return from where an agent's run goes on; None where there is nothing to keep."""
        request = self._reader.run.request
        if request is None:
            return None
        before = request.carried
        conversation = self._reader.run.conversation()
        length = _filled(conversation)
        if before is not None and self._base.epoch == before.epoch and length < before.conversation_slots:
            return self._anew(before)  # it ended before it had its own copy
        length = self._good(conversation, length, copied=self._base.slots)
        spec = self._spec(length)
        if length == 0 or spec is None or not any(conversation[n].role == "assistant" for n in range(length)):
            return None if before is None else self._anew(before)
        counters, length, turn = self._count(conversation, length)
        return Carried(
            from_run_id=self._run_id,
            spec=spec,
            conversation_slots=length,
            started_at=self._spent(before),
            epoch=self._epoch,
            counters=counters,
            first_run_id=(before.first_run_id if before is not None else "") or self._first_run_id,
            resumed=turn,
            raised=self._spending.raised,
            known_results=self._known_results(before),
            inbox=self.inbox(length),
            answered_turns=before.answered_turns if before is not None else 0,
        )

    def _anew(self, before: Carried) -> Carried:
        """Return what the run began with, to begin with it again."""
        resumed = before.resumed or ResumedTurn()
        inbox = self.inbox(before.conversation_slots)
        known = {
            "started_at": self._spent(before),
            "inbox": inbox,
            "raised": self._spending.raised,
            "bill": Bill(),
        }
        return before.model_copy(update={"resumed": resumed, **known})

    def inbox(self, length: int) -> CarriedInbox | None:
        """Return the messages to the run that are not in the first `length` slots of its conversation."""
        run, request = self._reader.run, self.request
        before = request.inbox if request.carried is None else request.carried.inbox
        known = dict.fromkeys((*(before.known if before is not None else ()), *run.sent))
        if not known:
            return None
        end = (self._epoch, length)
        waiting = tuple(each for id, each in run.sent.items() if run.delivered.get(id, end) >= end)
        first = 0 if before is None else before.received - len(before.known)
        ids = tuple(known)[-MAX_KNOWN_IDS:]
        return CarriedInbox(waiting=waiting, received=first + len(known), known=ids)

    @property
    def _epoch(self) -> int:
        return max((epoch for _, epoch in self._reader.run.conversations), default=0)

    def _known_results(self, before: Carried | None) -> tuple[KnownResult, ...]:
        """Return the results that were carried into the run, where compactions have left them."""
        known = {} if before is None else {each.digest: each.slot for each in before.known_results}
        for _, parts in sorted(self._reader.run.compactions.items()):
            moved = moved_slots(parts)
            known = {digest: moved[slot] for digest, slot in known.items() if slot in moved}
        return tuple(KnownResult(digest=digest, slot=slot) for digest, slot in known.items())

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
        result = self._reader.run.model_results.get((MAIN_CONVERSATION, self._epoch, slot))
        if slot in self._asked and self._asked[slot].is_final:
            return True
        return (result is not None and bool(result.problem)) or reply.stop in _BAD_STOPS

    def _spec(self, length: int) -> str | None:
        """Return the digest of the spec that the conversation goes on with."""
        asked = [slots for slots in sorted(self._asked) if slots <= length]
        if asked:
            return self._asked[asked[-1]].spec
        if self._base.spec is not None:
            return self._base.spec
        return next(reversed(self._reader.run.specs), None) if self._before is not None else None

    @property
    def _before(self) -> Carried | None:
        return None if self._reader.run.request is None else self._reader.run.request.carried

    def _replies(self, conversation: Conversation, length: int) -> list[int]:
        """Return the slots of the replies whose calls are this run's and this epoch's."""
        before, start = self._before, self._base.slots
        replies = [n for n in range(start, length) if conversation[n].role == "assistant"]
        is_first = before is not None and self._base.epoch == before.epoch
        if is_first and before is not None and before.resumed is not None and start:
            return [start - 1, *replies] if conversation[start - 1].tool_calls else replies
        return replies

    def _walk(
        self, conversation: Conversation, replies: list[int]
    ) -> tuple[int, tuple[str, ...], str, tuple[int, AgentSpec, int] | None]:
        """Return tool calls, earlier agents and present agent after `replies`; and the reply whose turn is open.

        That is its slot, its spec, and how many calls it makes.
        """
        made, path, agent = self._base.made, list(self._base.path), self._base.agent
        for slot in replies:
            spec = self._reader.run.specs.get(self._spec(slot) or "")
            if spec is None:
                continue
            if agent and spec.name != agent:
                path.append(agent)
            agent = spec.name
            calls = _calls(spec, conversation[slot])
            is_open = slot == replies[-1] and any(slot + 1 + n not in conversation for n in range(len(calls)))
            if calls and is_open:
                return made, tuple(path), agent, (slot, spec, len(calls))
            made += min(len(calls), max((spec.limits.max_tool_calls or _UNBOUNDED) - made, 0))
        return made, tuple(path), agent, None

    def _count(self, conversation: Conversation, length: int) -> tuple[Counters, int, ResumedTurn]:
        """Return the counters as they were, the slots to copy in one piece, and the turn to finish."""
        before, turn = self._before, ResumedTurn()
        made, path, _, is_open = self._walk(conversation, self._replies(conversation, length))
        if is_open is not None:
            slot, spec, calls = is_open
            turn = self._turn(spec, conversation, slot, calls, before)
            length = slot + 1
        counters = before.counters if before is not None else Counters()
        return self._add(counters, made, path, length), length, turn

    def _add(self, counters: Counters, made: int, handoffs: tuple[str, ...], length: int) -> Counters:
        """Return the counters of the run; what counts in a row, and what comes behind `length`, starts anew."""
        run = self._reader.run
        results = run.model_results.values()
        usage, saved_usage = counters.usage, counters.saved_usage
        for result in results:
            usage = usage + result.usage
            saved_usage = saved_usage + (result.saved or NO_USAGE)
        for summary in run.summaries:
            usage = usage + summary.usage
        return Counters(
            turns=counters.turns + len(results),
            model_calls=counters.model_calls + len(results) + len(run.summaries),
            tool_calls=made,
            usage=usage,
            handoffs=handoffs,
            saved_tool_calls=counters.saved_tool_calls + self._saved(length),
            saved_model_calls=counters.saved_model_calls + sum(result.saved is not None for result in results),
            saved_usage=saved_usage,
            copied_turns=counters.copied_turns,
        )

    def _saved(self, length: int) -> int:
        return sum(epoch < self._epoch or slot < length for _, epoch, slot in self._reader.run.saved)

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
