"""The turn loop: ask the model, run its tool calls, until there is an answer. Workflow side.

`AgentLoop` belongs to no workflow class, so that users' own classes can run it in their history.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from temporalio import workflow

from perdure.contracts.answers import is_answer, output_text, output_value
from perdure.contracts.budget import NONE_UNCOUNTED, Ledger, PromptSize, Uncounted
from perdure.contracts.calls import CallModelRequest, CallModelResult
from perdure.contracts.limits import Limits
from perdure.contracts.messages import Message
from perdure.contracts.run import Counters, ResumedTurn, RunState
from perdure.contracts.spec import AgentSpec
from perdure.contracts.usage import NO_USAGE
from perdure.errors import LimitExceeded, PerdureError, UnexpectedModelBehavior
from perdure.workflows._accounts import Account
from perdure.workflows._allowance import Allowance
from perdure.workflows._asking import ContextTooLong, ask_models
from perdure.workflows._bills import note_paid
from perdure.workflows._clock import LimitReached
from perdure.workflows._compactor import Compactor
from perdure.workflows._conversation import Conversation
from perdure.workflows._decisions import (
    after_interruption,
    after_model,
    after_summary,
    after_tools,
    call_summary,
    handoff_answers,
    last_call,
    reask,
    rejection,
    repetition_note,
)
from perdure.workflows._guard import CancelWatch
from perdure.workflows._host import current_host
from perdure.workflows._interruption import Interrupted, Interruption
from perdure.workflows._known import KnownResults
from perdure.workflows._mcp_sessions import McpSessions
from perdure.workflows._repeats import Repeats
from perdure.workflows._steering import Steering
from perdure.workflows._tool_calls import ToolCalls
from perdure.workflows._verifying import judge

_DEFAULT_ERRORS = 5
_PARTIAL_CHARS = 10_000


@dataclass(frozen=True)
class Answer:
    """How a loop ended well."""

    value: Any
    size: int
    """Length of the answer's text, in characters."""
    limit: str | None = None
    """The limit that ended it, if one did."""
    model: str = ""
    score: float | None = None
    """The verifier's, if it gave one."""


class AgentLoop:
    """One conversation of one agent.

    Attributes:
        state: What it does, for queries and search attributes.
        activity: The same in words.
        allowance: What it may take.
        known: Results that identical calls are answered with.
        suspended: The turn that waits for a person while the run continues as new; None otherwise.
        steering: What reaches it from outside.
        answered_turns: Turns that had been taken when a session answered last; `max_turns` counts from there.
    """

    def __init__(
        self,
        spec: AgentSpec,
        conversation: Conversation,
        *,
        counters: Counters,
        started_at: datetime,
        depth: int,
        tenant: str = "",
        known: KnownResults | None = None,
        reload: Callable[[str], Awaitable[AgentSpec]],
        on_progress: Callable[[], None],
        new_account: Callable[[Ledger], Account],
        account: Account | None = None,
        raised: Limits | None = None,
        uncounted: Uncounted = NONE_UNCOUNTED,
        should_suspend: Callable[[], bool] = lambda: False,
        steering: Steering | None = None,
        answered_turns: int = 0,
        prompt: PromptSize | None = None,
        sessions: McpSessions | None = None,
    ) -> None:
        """Go on with a conversation whose last message awaits the model."""
        self.spec = spec
        self.allowance = Allowance(
            spec,
            conversation,
            started_at=started_at,
            counters=lambda: self.counters,
            raised=raised,
            uncounted=uncounted,
            account=account,
            new_account=new_account,
        )
        self.conversation = conversation
        self.counters = counters
        self.state: RunState = "working"
        self.activity = ""
        self._on_progress = on_progress
        self._depth = depth
        self._tenant = tenant
        self.known = known or KnownResults()
        self.sessions = sessions or McpSessions()
        self.steering = steering or Steering()
        self.answered_turns = answered_turns
        self.compactor = Compactor(
            conversation, self.known, self._show, self._count_summary, prompt, self.allowance.clock
        )
        self._reload = reload
        self._should_suspend = should_suspend
        self.suspended: ResumedTurn | None = None
        self._cancel = CancelWatch()
        self._tools = self._new_tools()
        self._repeats = Repeats()
        for message in conversation.messages():
            self._repeats.note(message)

    async def run(self, *, should_stop: Callable[[], bool]) -> Answer | None:
        """Take turns until there is an answer, or `should_stop()` says to stop between two turns.

        A message that came before the answer was given is answered too: nothing that the run has taken is lost.

        Returns:
            The answer; None when stopped.

        Raises:
            LimitExceeded, UnexpectedModelBehavior, ModelUnavailable: Not retryable.
            CancelledError: The run was cancelled, also when what was in flight ended with a result.
        """
        self._cancel = CancelWatch()
        while await self.steering.ready(should_stop):
            try:
                answer = await self._turn(should_stop)
            except PerdureError as error:
                self._cancel.check(error)
                raise
            self._cancel.check()
            if answer is not None and (answer.limit or not self.steering.inbox):
                return answer
            if answer is not None and self.steering.is_session:
                self.answered_turns = self.counters.turns
            if self.suspended is not None or should_stop():
                return None
        return None

    async def resume(self, kept: Mapping[int, Message], turn: ResumedTurn) -> Answer | None:
        """Do what the last message asks for, where the run before had not got to the end of that."""
        self._cancel = CancelWatch()
        self._tools.resume(kept, turn)
        last = self.conversation.messages()[-1]
        if last.role != "assistant":
            return None
        try:
            return await self._take(CallModelResult(message=last, usage=NO_USAGE))
        except LimitReached:
            return None  # it still is when the next turn begins

    async def _turn(self, should_stop: Callable[[], bool]) -> Answer | None:
        try:
            self.allowance.check(self.counters.turns - self.answered_turns)
            reply = await self._ask()
            return None if reply is None else await self._take(reply)
        except LimitReached as reached:
            if self.spec.on_limit == "ask":
                await self._wait_for_limits(reached, should_stop)
                return None
            return await self._finish(reached.limit)

    @property
    def limits(self) -> Limits:
        """What holds now: what was set while the run was open, else what it is pinned to."""
        return self.allowance.limits

    def set_limits(self, given: Limits) -> None:
        """Change limits of the open run."""
        self.allowance.set(given)
        self._tools.limits = self.limits

    async def _wait_for_limits(self, reached: LimitReached, should_stop: Callable[[], bool]) -> None:
        """Wait until somebody sets a limit, here or above; no worker is needed meanwhile."""
        self.state = "waiting_limit"
        place = self.allowance.where(reached)
        told = f"the limit of {place} is reached" if place else f"the limit {reached.limit} is reached"
        self._show(f"{told} · waits for: perdure limit {place or workflow.info().workflow_id}")
        await self.allowance.wait(reached, should_stop)
        self.state = "working"
        self._show("")

    async def _take(self, result: CallModelResult) -> Answer | None:
        message = result.message
        if message.stop == "interrupted":
            return None
        if result.problem:
            self._object(message, result.problem)
        elif is_answer(message):
            return await self._verified(message)
        elif (handoff := self._find_handoff(message)) is not None:
            await self._hand_over(message, *handoff)
        else:
            await self._run_tools(message)
        return None

    async def _verified(self, message: Message) -> Answer | None:
        """Return the answer if the agent's verifier accepts it; else send it back."""
        answer = self._answer(message)
        if self.spec.verify is None:
            return answer
        await current_host().pause.passed()
        self._show(f"turn {self.counters.turn} · verified by {self.spec.verify}")
        try:
            verdict = await judge(
                self.spec,
                self.conversation,
                message,
                depth=self._depth,
                tenant=self._tenant,
                account=self.allowance.open_account(),
                limits=self.limits,
                clock=self.allowance.clock,
                note_uncounted=self.allowance.note_uncounted,
            )
        except LimitReached as reached:
            problem = f"Nobody could judge the answer: the limit {reached.limit} is reached."
            for unjudged in reask(message, problem):
                self.conversation.append(unjudged, is_recorded=False)
            raise
        if verdict.accept:
            return replace(answer, score=verdict.score)
        rejections = self.counters.rejections + 1
        self.counters = self.counters.model_copy(update={"rejections": rejections})
        if rejections > (self.limits.max_rejections or 0):
            raise UnexpectedModelBehavior(
                f"{self.spec.verify} rejected the answer {rejections} times. The last reason: {verdict.reason}",
                problem="rejected",
                partial=self._partial(),
            )
        for objection in rejection(message, verdict.reason):
            self.conversation.append(objection, is_recorded=False)
        return None

    def _find_handoff(self, message: Message) -> tuple[int, str] | None:
        """Return the first call that hands the conversation over, and to whom."""
        for index, call in enumerate(message.tool_calls):
            tool = self.spec.tool(call.name)
            if tool is not None and tool.handoff:
                return index, tool.handoff
        return None

    async def _hand_over(self, message: Message, index: int, target: str) -> None:
        """Go on with the same conversation as another agent."""
        path = (*self.counters.handoffs, self.spec.name)
        most = self.limits.max_handoffs
        if most is not None and len(path) > most:
            raise LimitExceeded(
                f"The limit max_handoffs={most} is reached: {' → '.join((*path, target))}.",
                limit=f"max_handoffs={most}",
                partial=self._partial(),
            )
        for answer in handoff_answers(message.tool_calls, index, f"Handed over to {target}."):
            self.conversation.append(answer, is_recorded=False)
        self.spec = await self._reload(target)
        self.allowance.hand_over(self.spec)
        self._tools = self._new_tools()
        self.counters = self.counters.model_copy(update={"handoffs": path})

    async def _ask(self, *, is_final: bool = False) -> CallModelResult | None:
        """Ask the model, then its fallbacks, and enter the reply; None when that was interrupted.

        Messages that wait come first, and room is made for all of it where there is none.
        """
        self.steering.deliver(self.conversation)
        stop = self.steering.interruption = Interruption()
        meter = self.allowance.open_meter()
        await self.compactor.make_room(self.spec, meter)
        self._cancel.check()
        while True:
            request = self._request(is_final=is_final)
            turn = self.counters.turn + 1
            try:
                result = await ask_models(
                    self.spec,
                    request,
                    turn=turn,
                    show=self._show,
                    meter=meter,
                    interruption=stop,
                    clock=self.allowance.clock,
                )
            except Interrupted:
                if not stop.has_begun:
                    self.conversation.put_back(request.new)
                return None
            except LimitReached:
                self.conversation.put_back(request.new)
                raise
            except ContextTooLong as refused:
                await self.compactor.after_refusal(refused, self.spec, meter)
                self._cancel.check()
            else:
                break
        result = after_interruption(result)
        self.compactor.note(request, result)
        self.conversation.append(result.message, is_recorded=True)
        self.counters = after_model(self.counters, result)
        note_paid(self.spec.name, result)
        self._cancel.check()
        return result

    def _request(self, *, is_final: bool) -> CallModelRequest:
        return CallModelRequest(
            spec=self.spec.digest,
            slots=len(self.conversation),
            epoch=self.conversation.epoch,
            conversation=self.conversation.name,
            new=self.conversation.take_new(),
            is_final=is_final,
            tenant=self._tenant if self.spec.settings.cache == "shared" else "",
            digest=self.conversation.digest(),
        )

    def _count_summary(self, result: CallModelResult) -> None:
        self.counters = after_summary(self.counters, result)
        note_paid(self.spec.name, result)

    async def shorten(self) -> bool:
        """Make room because the conversation is large, and say whether there is any."""
        try:
            return await self.compactor.shorten(self.spec, self.allowance.open_meter())
        except LimitReached:
            return False  # the next turn tells of it

    async def _run_tools(self, message: Message) -> None:
        calls = message.tool_calls
        self._show(f"turn {self.counters.turn} · " + ", ".join(call_summary(call) for call in calls[:5]))
        made = self.counters.tool_calls
        room = await self.allowance.room_for_tools(len(calls), made)
        self.counters = self.counters.model_copy(update={"tool_calls": made + room})
        self.allowance.keep_room(calls)
        answers = await self._tools.run(calls, first_ordinal=made, room=room)
        if answers is None:
            self.suspended = self._tools.open_turn()
            self.counters = self.counters.model_copy(update={"tool_calls": made})  # they are counted when they end
            self.allowance.give_back_tools(room)
            return
        results = answers.messages
        self.counters = after_tools(self.counters, results, saved=answers.saved)
        self._look_for_repeats(message, results)
        if self.counters.failing_turns >= self._max_errors:
            raise UnexpectedModelBehavior(
                f"No tool call succeeded in {self.counters.failing_turns} turns in a row.",
                problem="tool calls fail",
                partial=self._partial(),
            )

    def _look_for_repeats(self, message: Message, results: Sequence[Message]) -> None:
        """Tell the model that it goes in circles; end the run when that doesn't help."""
        most = self.limits.max_repeats
        self._repeats.note(message)
        counts = [self._repeats.note(result) for result in results]
        tool, count = max(counts, key=lambda each: each[1], default=("", 0))
        if most is None or count < most:
            return
        if count >= 2 * most:
            raise UnexpectedModelBehavior(
                f"{tool} was called {count} times with the same arguments and the same result.",
                problem="repeats itself",
                partial=self._partial(),
            )
        if count == most:
            self.conversation.append(repetition_note(tool, count), is_recorded=False)

    def _object(self, message: Message, problem: str) -> None:
        if self.counters.unusable >= self._max_errors:
            raise UnexpectedModelBehavior(
                f"{self.counters.unusable} replies in a row could not be used. The last: {problem}",
                problem=problem,
                partial=self._partial(),
            )
        for objection in reask(message, problem):
            self.conversation.append(objection, is_recorded=False)

    async def _finish(self, limit: str) -> Answer:
        """Do what the agent's `on_limit` says."""
        if self.spec.on_limit != "finish":
            raise LimitExceeded(
                f"The limit {limit} is reached; raise it with --limit, or on the agent.",
                limit=limit,
                partial=self._partial(),
            )
        if self.allowance.clock.is_over and not self.counters.turn:
            raise LimitExceeded(f"The limit {limit} was reached before the run began.", limit=limit, partial="")
        self.state = "finishing"
        self.steering.deliver(self.conversation)
        self.conversation.append(last_call(limit), is_recorded=False)
        try:
            with self.allowance.clock.last_call():
                result = await self._ask(is_final=True)
        except LimitReached as reached:
            raise LimitExceeded(
                f"The limit {reached.limit} is reached, and leaves no room for a last call.",
                limit=reached.limit,
                partial=self._partial(),
            ) from None
        assert result is not None, "nobody interrupts the last call: messages are refused"
        if result.problem or not is_answer(result.message):
            raise LimitExceeded(
                f"The limit {limit} is reached, and the last reply was no answer. {result.problem}".rstrip(),
                limit=limit,
                partial=self._partial(),
            )
        return self._answer(result.message, limit)

    def last_answer(self, *, limit: str | None, score: float | None) -> Answer:
        """Return the answer that a session gave before it continued as new."""
        last = self.conversation.last()
        assert last is not None, "a conversation begins with its input"
        return replace(self._answer(last, limit), score=score)

    def wait_for_message(self) -> None:
        """Say that a session waits for the next message, after an answer."""
        self.answered_turns = self.counters.turns
        self.state = "idle"
        self._show("waits for a message")

    def go_on(self) -> None:
        """Say that there is one."""
        self.state = "working"
        self._show("")

    def _answer(self, message: Message, limit: str | None = None) -> Answer:
        if message.stop == "refusal":
            raise UnexpectedModelBehavior(
                f"{message.model} refused to answer: {message.text[:500]}", problem="refusal"
            )
        value, size = output_value(self.spec, message), len(output_text(message))
        return Answer(value, size, limit, message.model or "")

    def _new_tools(self) -> ToolCalls:
        return ToolCalls(
            self.spec,
            self.conversation,
            depth=self._depth,
            tenant=self._tenant,
            known=self.known,
            limits=self.limits,
            account=self.allowance.open_account,
            note_uncounted=self.allowance.note_uncounted,
            clock=self.allowance.clock,
            should_suspend=self._should_suspend,
            sessions=self.sessions,
        )

    @property
    def _max_errors(self) -> int:
        return self.limits.max_consecutive_errors or _DEFAULT_ERRORS

    def _partial(self) -> str:
        """The last text that the model wrote, for whoever gets the error."""
        return self.conversation.last_text()[:_PARTIAL_CHARS]

    def _show(self, activity: str) -> None:
        self.activity = activity
        self._on_progress()
