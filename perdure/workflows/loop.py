"""The turn loop: ask the model, run its tool calls, until there is an answer. Workflow side.

`AgentLoop` belongs to no workflow class, so that users' own classes can run it in their history.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from temporalio import workflow

from perdure.contracts.answers import is_answer, output_text, output_value
from perdure.contracts.calls import CallModelRequest, CallModelResult
from perdure.contracts.messages import Message
from perdure.contracts.run import Counters, ResumedTurn, RunState
from perdure.contracts.spec import AgentSpec
from perdure.contracts.usage import NO_USAGE
from perdure.errors import LimitExceeded, UnexpectedModelBehavior
from perdure.workflows._asking import ask_models
from perdure.workflows._conversation import Conversation
from perdure.workflows._decisions import (
    after_model,
    after_tools,
    call_summary,
    handoff_answers,
    last_call,
    limit_reached,
    reask,
    rejection,
    repetition_note,
)
from perdure.workflows._known import KnownResults
from perdure.workflows._repeats import Repeats
from perdure.workflows._tool_calls import ToolCalls
from perdure.workflows._verifying import judge

_DEFAULT_ERRORS = 5
_PARTIAL_CHARS = 10_000
_UNBOUNDED = 1_000_000_000


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
        known: Results that identical calls are answered with.
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
    ) -> None:
        """Go on with a conversation whose last message awaits the model."""
        self.spec = spec
        self.conversation = conversation
        self.counters = counters
        self.state: RunState = "working"
        self.activity = ""
        self._started_at = started_at
        self._on_progress = on_progress
        self._depth = depth
        self._tenant = tenant
        self.known = known or KnownResults()
        self._reload = reload
        self._tools = self._new_tools()
        self._repeats = Repeats()
        for message in conversation.messages():
            self._repeats.note(message)

    async def run(self, *, should_pause: Callable[[], bool]) -> Answer | None:
        """Take turns until there is an answer, or `should_pause()` says to stop between two turns.

        Returns:
            The answer; None when paused.

        Raises:
            LimitExceeded, UnexpectedModelBehavior, ModelUnavailable: Not retryable.
        """
        while True:
            limit = limit_reached(self.spec.limits, self.counters, workflow.now() - self._started_at)
            if limit is not None:
                return await self._finish(limit)
            result = await self._ask()
            answer = await self._take(result)
            if answer is not None:
                return answer
            if should_pause():
                return None

    async def resume(self, kept: Mapping[int, Message], turn: ResumedTurn) -> Answer | None:
        """Do what the last message asks for, where the run before had not got to the end of that."""
        self._tools.resume(kept, turn)
        last = self.conversation.messages()[-1]
        if last.role != "assistant":
            return None
        return await self._take(CallModelResult(message=last, usage=NO_USAGE))

    async def _take(self, result: CallModelResult) -> Answer | None:
        message = result.message
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
        self._show(f"turn {self.counters.turns} · verified by {self.spec.verify}")
        verdict = await judge(self.spec, self.conversation, message, depth=self._depth, tenant=self._tenant)
        if verdict.accept:
            return replace(answer, score=verdict.score)
        rejections = self.counters.rejections + 1
        self.counters = self.counters.model_copy(update={"rejections": rejections})
        if rejections > (self.spec.limits.max_rejections or 0):
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
        most = self.spec.limits.max_handoffs
        if most is not None and len(path) > most:
            raise LimitExceeded(
                f"The limit max_handoffs={most} is reached: {' → '.join((*path, target))}.",
                limit=f"max_handoffs={most}",
                partial=self._partial(),
            )
        for answer in handoff_answers(message.tool_calls, index, f"Handed over to {target}."):
            self.conversation.append(answer, is_recorded=False)
        self.spec = await self._reload(target)
        self._tools = self._new_tools()
        self.counters = self.counters.model_copy(update={"handoffs": path})

    async def _ask(self, *, is_final: bool = False) -> CallModelResult:
        """Ask the model, then its fallbacks, and enter the reply."""
        request = CallModelRequest(
            spec=self.spec.digest,
            slots=len(self.conversation),
            epoch=self.conversation.epoch,
            conversation=self.conversation.name,
            new=self.conversation.take_new(),
            is_final=is_final,
            tenant=self._tenant if self.spec.settings.cache == "shared" else "",
        )
        result = await ask_models(self.spec, request, turn=self.counters.turns + 1, show=self._show)
        self.conversation.append(result.message, is_recorded=True)
        self.counters = after_model(self.counters, result)
        return result

    async def _run_tools(self, message: Message) -> None:
        calls = message.tool_calls
        self._show(f"turn {self.counters.turns} · " + ", ".join(call_summary(call) for call in calls[:5]))
        made = self.counters.tool_calls
        room = (self.spec.limits.max_tool_calls or _UNBOUNDED) - made
        self.counters = self.counters.model_copy(update={"tool_calls": made + min(len(calls), max(room, 0))})
        answers = await self._tools.run(calls, first_ordinal=made, room=room)
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
        most = self.spec.limits.max_repeats
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
        self.state = "finishing"
        self.conversation.append(last_call(limit), is_recorded=False)
        result = await self._ask(is_final=True)
        if result.problem or not is_answer(result.message):
            raise LimitExceeded(
                f"The limit {limit} is reached, and the last reply was no answer. {result.problem}".rstrip(),
                limit=limit,
                partial=self._partial(),
            )
        return self._answer(result.message, limit)

    def _answer(self, message: Message, limit: str | None = None) -> Answer:
        if message.stop == "refusal":
            raise UnexpectedModelBehavior(
                f"{message.model} refused to answer: {message.text[:500]}", problem="refusal"
            )
        value, size = output_value(self.spec, message), len(output_text(message))
        return Answer(value, size, limit, message.model or "")

    def _new_tools(self) -> ToolCalls:
        return ToolCalls(self.spec, self.conversation, depth=self._depth, tenant=self._tenant, known=self.known)

    @property
    def _max_errors(self) -> int:
        return self.spec.limits.max_consecutive_errors or _DEFAULT_ERRORS

    def _partial(self) -> str:
        """The last text that the model wrote, for whoever gets the error."""
        return self.conversation.last_text()[:_PARTIAL_CHARS]

    def _show(self, activity: str) -> None:
        self.activity = activity
        self._on_progress()
