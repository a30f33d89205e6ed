"""The turn loop: ask the model, run its tool calls, until there is an answer. Workflow side.

`AgentLoop` belongs to no workflow class, so that users' own classes can run it in their history.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from temporalio import workflow
from temporalio.exceptions import ActivityError, ApplicationError, is_cancelled_exception

from perdure.contracts.calls import CallModelRequest, CallModelResult
from perdure.contracts.messages import Message
from perdure.contracts.run import Counters, RunState
from perdure.contracts.spec import AgentSpec
from perdure.errors import (
    AgentBug,
    LimitExceeded,
    ModelUnavailable,
    PerdureError,
    UnexpectedModelBehavior,
    revive,
)
from perdure.workflows._calls import call_model
from perdure.workflows._conversation import Conversation
from perdure.workflows._decisions import (
    after_model,
    after_tools,
    call_summary,
    is_answer,
    last_call,
    limit_reached,
    output_text,
    output_value,
    reask,
)
from perdure.workflows._tool_calls import ToolCalls

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


class AgentLoop:
    """One conversation of one agent.

    Attributes:
        state: What it does, for queries and search attributes.
        activity: The same in words.
    """

    def __init__(
        self,
        spec: AgentSpec,
        conversation: Conversation,
        *,
        counters: Counters,
        started_at: datetime,
        depth: int,
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
        self._tools = ToolCalls(spec, conversation, depth=depth)

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

    async def _take(self, result: CallModelResult) -> Answer | None:
        message = result.message
        if result.problem:
            self._object(message, result.problem)
        elif is_answer(message):
            return self._answer(message)
        else:
            await self._run_tools(message)
        return None

    async def _ask(self, *, is_final: bool = False) -> CallModelResult:
        """Ask the model, then its fallbacks, and enter the reply."""
        request = CallModelRequest(
            spec=self.spec.digest,
            slots=len(self.conversation),
            epoch=self.conversation.epoch,
            conversation=self.conversation.name,
            new=self.conversation.take_new(),
            is_final=is_final,
        )
        result = await self._ask_models(request)
        self.conversation.append(result.message, is_recorded=True)
        self.counters = after_model(self.counters, result.usage, is_usable=not result.problem)
        return result

    async def _ask_models(self, request: CallModelRequest) -> CallModelResult:
        turn = self.counters.turns + 1
        for index, model in enumerate(self.spec.models):
            self._show(f"turn {turn} · waiting for {model.name}")
            try:
                return await call_model(self.spec, request.model_copy(update={"model": index}), turn=turn)
            except ActivityError as error:
                if is_cancelled_exception(error):
                    raise
                if index + 1 == len(self.spec.models):
                    raise _model_failure(error, model.name) from error
        raise AssertionError("unreachable: a spec has a model")

    async def _run_tools(self, message: Message) -> None:
        calls = message.tool_calls
        self._show(f"turn {self.counters.turns} · " + ", ".join(call_summary(call) for call in calls[:5]))
        made = self.counters.tool_calls
        room = (self.spec.limits.max_tool_calls or _UNBOUNDED) - made
        self.counters = self.counters.model_copy(update={"tool_calls": made + min(len(calls), max(room, 0))})
        results = await self._tools.run(calls, first_ordinal=made, room=room)
        self.counters = after_tools(self.counters, results)
        if self.counters.failing_turns >= self._max_errors:
            raise UnexpectedModelBehavior(
                f"No tool call succeeded in {self.counters.failing_turns} turns in a row.",
                problem="tool calls fail",
                partial=self._partial(),
            )

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
        return Answer(output_value(self.spec, message), len(output_text(message)), limit)

    @property
    def _max_errors(self) -> int:
        return self.spec.limits.max_consecutive_errors or _DEFAULT_ERRORS

    def _partial(self) -> str:
        """The last text that the model wrote, for whoever gets the error."""
        return self.conversation.last_text()[:_PARTIAL_CHARS]

    def _show(self, activity: str) -> None:
        self.activity = activity
        self._on_progress()


def _model_failure(error: ActivityError, model: str) -> PerdureError:
    cause = revive(error.cause) if error.cause is not None else error
    if isinstance(cause, ApplicationError):
        if cause.type == "AgentBug":
            return AgentBug(cause.message)
        details = dict(cause.attributes) if isinstance(cause, PerdureError) else {}
        return ModelUnavailable(f"{model}: {cause.message}", model=model, cause=cause.type, **details)
    return ModelUnavailable(f"{model} did not answer in time: {cause}", model=model, cause="timeout")
