"""The tool calls of one turn: in parallel, in slots reserved in the model's order. Workflow side."""

import asyncio
import json
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from hashlib import sha256

from temporalio import workflow
from temporalio.exceptions import (
    ActivityError,
    ApplicationError,
    TimeoutType,
    is_cancelled_exception,
)
from temporalio.exceptions import (
    TimeoutError as TemporalTimeoutError,
)

from perdure.agents.outcomes import unknown_outcome
from perdure.contracts.budget import Uncounted
from perdure.contracts.calls import CallToolRequest, CallToolResult
from perdure.contracts.limits import Limits
from perdure.contracts.messages import Message, ToolCallPart, tool_message
from perdure.contracts.run import AnswersCall, ResumedTurn, answer_message
from perdure.contracts.spec import AgentSpec, ToolSpec
from perdure.errors import InvalidInputError, LimitExceeded, PerdureError, TaskFailed, ToolError, UserError, revive
from perdure.workflows._accounts import Account
from perdure.workflows._approvals import Call as ApprovalCall
from perdure.workflows._approvals import permission
from perdure.workflows._calls import call_tool
from perdure.workflows._clock import UNBOUNDED, Clock, LimitReached
from perdure.workflows._conversation import Conversation
from perdure.workflows._decisions import call_summary, is_ok, objection
from perdure.workflows._funding import run_funded
from perdure.workflows._host import current_host
from perdure.workflows._known import KnownResults, call_digest
from perdure.workflows._mcp_sessions import McpSessions, lost_session
from perdure.workflows._questions import answer_question
from perdure.workflows._subagents import keep_child_ids, subagent_request
from perdure.workflows._waiting import Suspended, is_reopened, wait_id
from perdure.workflows._waits import MAX_CARRIED
from perdure.workflows.gathering import gather

_INLINE_ARGUMENTS = 1000
"""Longer arguments are looked up in the message that asked for the call."""
_NOT_RUN_RETRIES = 3
_DEFAULT_PARALLEL = 8


@dataclass(frozen=True)
class _Call:
    part: ToolCallPart
    index: int
    ordinal: int
    call_slot: int
    slot: int
    is_edited: bool = False
    """A person put its arguments in place of the model's."""


@dataclass(frozen=True)
class Answers:
    """What became of the tool calls of one turn.

    Attributes:
        messages: A result for each, in order.
        saved: How many were answered by the result of another.
    """

    messages: list[Message]
    saved: int


class ToolCalls:
    """Runs the tool calls of messages of one conversation.

    Attributes:
        limits: What holds now.
    """

    def __init__(
        self,
        spec: AgentSpec,
        conversation: Conversation,
        *,
        depth: int,
        tenant: str,
        known: KnownResults,
        limits: Limits,
        account: Callable[[], Account | None],
        note_uncounted: Callable[[Uncounted], None] | None = None,
        clock: Clock = UNBOUNDED,
        should_suspend: Callable[[], bool] = lambda: False,
        sessions: McpSessions | None = None,
    ) -> None:
        """Work for this conversation.

        Args:
            spec: Whose tools are called.
            conversation: Where the results go.
            depth: How many runs of agents are above it.
            tenant: Who the run is for.
            known: Results that identical calls are answered with.
            limits: What holds now.
            account: Returns what subagents are paid from, if they share a limit.
            note_uncounted: Is told what they took, if they don't.
            clock: Says how much time is left: calls and waits end with it.
            should_suspend: Says that the run is to continue as new, as soon as nothing is at work.
            sessions: Of the run with stateful MCP servers.
        """
        self._sessions = sessions or McpSessions()
        self._clock = clock
        self._should_suspend = should_suspend
        self._at_work = 0
        self._is_suspended = False
        self._account = account
        self._note_uncounted = note_uncounted
        self._subagents_left = 0
        self.limits = limits
        self._depth = depth
        self._tenant = tenant
        self._known = known
        self._spec = spec
        self._conversation = conversation
        self._saved = 0
        self._edited: set[int] = set()
        """Slots of calls that were made with a person's arguments."""
        self._kept: dict[int, Message] = {}
        self._turn = ResumedTurn()

    def resume(self, kept: Mapping[int, Message], turn: ResumedTurn) -> None:
        """Take what is known of the next calls: results by slot, and calls that are not to be made again."""
        self._kept.update(kept)
        self._turn = turn
        keep_child_ids(each.run for each in turn.calls)
        self._learn()

    def _learn(self) -> None:
        """Remember results of the run before that identical calls are answered with."""
        messages = self._conversation.messages()
        for asked, message in enumerate(messages):
            for slot, part in enumerate(message.tool_calls, asked + 1):
                tool = self._spec.tool(part.name)
                if tool is None or tool.cache != "run" or slot >= len(messages) or messages[slot].role != "tool":
                    continue
                digest = call_digest(tool, part.arguments)
                if digest and is_ok(messages[slot]):
                    self._known.add(digest, slot)

    async def run(self, parts: Sequence[ToolCallPart], *, first_ordinal: int, room: int) -> Answers | None:
        """Answer every call of the last message, in its order.

        A call that another one answers waits for it outside of the gate: it takes nobody's place.

        Args:
            parts: The calls.
            first_ordinal: How many tool calls the run made before.
            room: How many more it may make; calls beyond that are answered with the limit.

        Returns:
            None where those that are left wait for a person, and the run is to continue as new first.
        """
        current_host().waits.begin_turn(self._conversation.name)
        call_slot = len(self._conversation) - 1
        first = self._conversation.reserve(len(parts))
        calls = [_Call(part, i, first_ordinal + i, call_slot, first + i) for i, part in enumerate(parts)]
        gate = asyncio.Semaphore(self.limits.max_parallel_tool_calls or _DEFAULT_PARALLEL)
        digests = {call.index: self._digest(call, room) for call in calls}
        sources = self._known.sources([(call.slot, digests[call.index]) for call in calls])
        self._saved = len(sources)
        made = [call for call in calls if call.slot not in sources]
        self._subagents_left = sum(self._is_subagent(call, room) for call in made)
        self._at_work = len(made)
        await gather(*(self._answer_or_suspend(call, gate, room) for call in made))
        if self._is_suspended:
            return None
        for call in calls:
            if call.slot in sources:
                self._conversation.fill_like(call.slot, call.part, sources[call.slot])
        messages = [self._conversation.message(call.slot) for call in calls]
        for call in made:
            self._remember(call, digests[call.index])
        return Answers(messages, self._saved)

    def open_turn(self) -> ResumedTurn:
        """Return what is known of a turn that is to go on in another run: what has been answered."""
        calls = self._last_calls()
        return ResumedTurn(kept=tuple(slot for slot in calls if self._conversation.is_filled(slot)))

    def _last_calls(self) -> range:
        last = self._conversation.last_reply()
        return range(last + 1, len(self._conversation))

    def _can_suspend(self) -> bool:
        """Say whether nothing is at work, and the run is to continue as new; all that wait must say the same."""
        is_right = self._at_work == 0 and len(current_host().waits.pending) <= MAX_CARRIED
        self._is_suspended = self._is_suspended or (is_right and self._should_suspend())
        return self._is_suspended

    async def _answer_or_suspend(self, call: _Call, gate: asyncio.Semaphore, room: int) -> None:
        with suppress(Suspended):
            await self._answer(call, gate, room)
            self._at_work -= 1

    def _is_subagent(self, call: _Call, room: int) -> bool:
        tool = self._spec.tool(call.part.name)
        return tool is not None and tool.agent != "" and self._refusal(call, room) is None

    def _digest(self, call: _Call, room: int) -> str:
        """Return what tells identical calls; empty for a call that no other may answer."""
        tool = self._spec.tool(call.part.name)
        if tool is None or tool.cache is None or self._refusal(call, room) is not None:
            return ""
        return call_digest(tool, call.part.arguments)

    def _remember(self, call: _Call, digest: str) -> None:
        tool = self._spec.tool(call.part.name)
        is_kept = digest and tool is not None and tool.cache == "run" and call.slot not in self._edited
        if is_kept and is_ok(self._conversation.message(call.slot)):
            self._known.add(digest, call.slot)

    def _refusal(self, call: _Call, room: int) -> Message | None:
        if call.index >= room:
            return tool_message(call.part, "Not run: the limit max_tool_calls is reached.", outcome="denied")
        return objection(self._spec, call.part)

    async def _answer(self, call: _Call, gate: asyncio.Semaphore, room: int) -> None:
        refusal = self._refusal(call, room)
        if refusal is not None:
            self._conversation.fill(call.slot, refusal, is_recorded=False)
            return
        tool = self._spec.tool(call.part.name)
        assert tool is not None, "objection() has answered calls of unknown tools"
        if self._from_earlier_run(tool, call) is not None:
            return
        permitted = await self._permitted(tool, call)
        if permitted is not None:
            async with gate:
                await current_host().pause.passed()
                await self._make(tool, permitted)

    async def _make(self, tool: ToolSpec, call: _Call) -> None:
        try:
            await (self._run_agent(tool, call) if tool.agent else self._run(tool, call))
        except LimitReached as reached:
            message = tool_message(call.part, f"Not run: the limit {reached.limit} is reached.", outcome="denied")
            self._conversation.fill(call.slot, message, is_recorded=False)

    async def _permitted(self, tool: ToolSpec, call: _Call) -> _Call | None:
        """Return the call as it may be made; None where a person, or the lack of one, has answered it.

        Who waits takes nobody's place at the gate. What waited before the run continued as new can be decided
        during a pause, as before; the call itself passes it at the gate.
        """
        if tool.approval is None and tool.question is None:
            await current_host().pause.passed()
            return call
        id = self._wait_id(call)
        if not is_reopened(id):
            await current_host().pause.passed()
        if tool.question is not None:
            with self._idle():
                message = await answer_question(
                    call.part,
                    tool.question,
                    id=id,
                    agent=self._spec.name,
                    call_slot=call.call_slot,
                    index=call.index,
                    conversation=self._conversation.name,
                    should_suspend=self._can_suspend,
                    clock=self._clock,
                )
            self._conversation.fill(call.slot, message, is_recorded=False)
            return None
        asked = ApprovalCall(
            id=id,
            tool=tool,
            arguments=call.part.arguments,
            agent=self._spec.name,
            message=self._conversation.message(call.call_slot),
            call_slot=call.call_slot,
            index=call.index,
            conversation=self._conversation.name,
            context=self._spec.context,
        )
        permit = await permission(asked, idle=self._idle, should_suspend=self._can_suspend, clock=self._clock)
        if permit.denial:
            message = tool_message(call.part, permit.denial, outcome="denied")
            self._conversation.fill(call.slot, message, is_recorded=False)
            return None
        if permit.arguments is None:
            return call
        self._edited.add(call.slot)
        part = call.part.model_copy(update={"arguments": permit.arguments})
        return replace(call, part=part, is_edited=True)

    @contextmanager
    def _idle(self) -> Generator[None]:
        """Count a call as not at work, while it waits for a person."""
        self._at_work -= 1
        try:
            yield
        except Suspended:
            self._at_work += 1
            raise
        self._at_work += 1

    def _wait_id(self, call: _Call) -> str:
        """Return what names the call to people: it stands for exactly these arguments."""
        first = current_host().first_run_id or workflow.info().first_execution_run_id
        return wait_id(first, self._conversation.name, str(call.ordinal), call.part.arguments)

    def _from_earlier_run(self, tool: ToolSpec, call: _Call) -> Message | None:
        """Return what the run before knew of a call, where it is not to be made again."""
        kept = self._kept.pop(call.slot, None)
        if kept is not None:
            self._conversation.fill(call.slot, kept, is_recorded=True)
            return kept
        if call.slot not in self._turn.unknown:
            return None
        message = unknown_outcome(tool, call.part, "the run ended")
        self._conversation.fill(call.slot, message, is_recorded=False)
        return message

    async def _run_agent(self, tool: ToolSpec, call: _Call) -> Message:
        """Answer a call of a subagent by a run of its own."""
        answers = AnswersCall(
            slot=call.slot,
            call_id=call.part.id,
            name=tool.name,
            conversation=self._conversation.name,
            epoch=self._conversation.epoch,
            edited=call.part.arguments if call.is_edited else "",
        )
        self._clock.left()
        try:
            text = self._subagent_input(call.part)
            request = subagent_request(
                tool.agent,
                text,
                depth=self._depth + 1,
                tenant=self._tenant,
                answers=answers,
                approvals=self._spec.run_approvals,
            )
            earlier = next((each.run for each in self._turn.calls if each.slot == call.slot), None)
            child_id = None if earlier is None else earlier.workflow_id
            parts = self._subagents_left + 1
            self._subagents_left -= 1
            result = await run_funded(
                request,
                self._account(),
                of=parts,
                limits=self.limits,
                workflow_id=child_id,
                earlier=earlier,
                note_uncounted=self._note_uncounted,
            )
            if result.output_slot is not None:
                raise TaskFailed(f"The answer of {tool.agent} is too long to pass on. Ask it for less.")
            message = answer_message(answers, result)
        except PerdureError as error:
            message = tool_message(call.part, error.message[:2000], outcome="error")
            self._conversation.fill(call.slot, message, is_recorded=False)
            return message
        self._conversation.fill(call.slot, message, is_recorded=True)
        return message

    def _subagent_input(self, part: ToolCallPart) -> str:
        """Return what a subagent is asked; raise what the model is told instead."""
        deepest = self.limits.max_depth
        if deepest is not None and self._depth >= deepest:
            raise LimitExceeded(f"Not run: agents may call agents {deepest} levels deep (max_depth).")
        try:
            text = json.loads(part.arguments)["input"]
        except (ValueError, TypeError, KeyError):
            text = None
        if not isinstance(text, str):
            raise InvalidInputError(f"Invalid arguments: call {part.name} with a text, as 'input'.")
        return text

    async def _run(self, tool: ToolSpec, call: _Call) -> Message:
        request = self._request(tool, call)
        try:
            result = await self._call_in_session(tool, request, call)
        except ActivityError as error:
            if is_cancelled_exception(error):
                raise
            message = unknown_outcome(tool, call.part, _reason(error))
            self._conversation.fill(call.slot, message, is_recorded=False)
            return message
        if result is None:
            message = tool_message(call.part, lost_session(tool), outcome="error")
            self._conversation.fill(call.slot, message, is_recorded=False)
            return message
        self._conversation.fill(call.slot, result.message, is_recorded=True)
        return result.message

    async def _call_in_session(
        self, tool: ToolSpec, request: CallToolRequest, call: _Call
    ) -> CallToolResult | None:
        """Make a call, where the run's session is if it needs one; None where that is gone: it was not run."""
        if tool.mcp is None or not tool.mcp.is_stateful:
            return await self._call(tool, request, call)
        return await self._sessions.call(tool, request, lambda request: self._call(tool, request, call))

    async def _call(self, tool: ToolSpec, request: CallToolRequest, call: _Call) -> CallToolResult:
        for left in reversed(range(_NOT_RUN_RETRIES)):
            within = self._clock.left()
            try:
                result = await call_tool(self._spec, tool, request, summary=call_summary(call.part), within=within)
                self._saved += result.is_saved
                return result
            except ActivityError as error:
                if not (_was_not_run(error) and left):
                    raise
        raise AssertionError("unreachable")

    def _request(self, tool: ToolSpec, call: _Call) -> CallToolRequest:
        arguments = call.part.arguments
        is_short = tool.local or call.is_edited or len(arguments) <= _INLINE_ARGUMENTS
        return CallToolRequest(
            spec=self._spec.digest,
            call_slot=call.call_slot,
            index=call.index,
            slot=call.slot,
            key=_idempotency_key(self._conversation.name, call.ordinal, arguments),
            name=tool.name,
            arguments=arguments if is_short else None,
            call_id=call.part.id if is_short else "",
            epoch=self._conversation.epoch,
            conversation=self._conversation.name,
            tenant=self._tenant,
            is_edited=call.is_edited,
            call_digest="" if is_short else self._conversation.digest_of(call.call_slot),
        )


def _idempotency_key(conversation: str, ordinal: int, arguments: str) -> str:
    """Return a key that survives retries, Continue-As-New and reset, and that no other call has."""
    info = workflow.info()
    digest = sha256(arguments.encode(errors="surrogatepass")).hexdigest()
    parts = (
        info.namespace,
        info.workflow_id,
        current_host().first_run_id or info.first_execution_run_id,
        conversation,
        str(ordinal),
        digest,
    )
    return sha256("\n".join(parts).encode()).hexdigest()[:32]


def describe_failure(error: ActivityError, tool: str) -> PerdureError:
    """Return the typed error of a tool's activity that failed for good."""
    cause = revive(error.cause) if error.cause is not None else None
    if isinstance(cause, UserError):
        return cause
    text = f"outcome unknown: {_reason(error)} while {tool} ran."
    return ToolError(text, is_retryable=False, tool=tool, outcome="unknown")


def _was_not_run(error: ActivityError) -> bool:
    return isinstance(error.cause, ApplicationError) and error.cause.type == "ConversationUnavailableError"


def _reason(error: ActivityError) -> str:
    cause = error.cause
    if isinstance(cause, TemporalTimeoutError):
        is_dead = cause.type == TimeoutType.HEARTBEAT
        return "the worker died" if is_dead else "the time for it ran out"
    if isinstance(cause, ApplicationError):
        return cause.message[:500]
    return "the call failed"
