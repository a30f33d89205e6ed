"""A model call that summarises the older part of a conversation. Activity side; pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from perdure.activities._compacting import (
    SUMMARY_INSTRUCTIONS,
    Parts,
    plan_summary,
    summary_message,
    summary_prompt,
)
from perdure.activities._metering import usage_of
from perdure.activities._outputs import MAX_REPLY_BYTES
from perdure.contracts.calls import CallModelRequest, CallModelResult
from perdure.contracts.compaction import CompactedPart
from perdure.contracts.messages import Message
from perdure.contracts.spec import AgentSpec
from perdure.contracts.usage import NO_USAGE
from perdure.providers.base import ModelReply

_LEAST_TOKENS = 2048
"""Models that think need some of the reply for that."""


@dataclass(frozen=True)
class SummaryCall:
    """What a summariser is asked, and what its reply makes of the conversation.

    Attributes:
        request: The call, with its bound of output tokens.
        spec: The agent, as far as the summariser plays it.
        prompt: The one message that it is shown.
    """

    request: CallModelRequest
    spec: AgentSpec
    prompt: Message
    _before: Parts
    _count: int
    _after: Parts

    def result(self, reply: ModelReply) -> CallModelResult:
        """Return how the next epoch is made; its text is recorded there, and not again as a message."""
        model = self.spec.models[self.request.model]
        usage = usage_of(reply, model.price, is_metered=self.request.is_metered)
        text, stop = reply.message.text, reply.message.stop
        empty = Message(role="assistant", model=model.name, stop=stop)
        if not text.strip() or stop in ("refusal", "interrupted") or len(text.encode()) > MAX_REPLY_BYTES:
            return CallModelResult(message=empty, usage=usage, problem="It is no summary.")
        summary = CompactedPart(message=summary_message(text, self._count))
        return CallModelResult(message=empty, usage=usage, compacted=(*self._before, summary, *self._after))


def summary_call(spec: AgentSpec, request: CallModelRequest, messages: Sequence[Message]) -> SummaryCall | None:
    """Return the call that summarises the older part of a conversation; None where there is none to summarise."""
    policy, asked = spec.compaction, request.summary
    assert policy is not None, "a run without it asks for no summary"
    assert asked is not None, "only called where a summary is asked for"
    plan = plan_summary(messages, asked.room, policy.keep_turns, asked.prompt_tokens)
    if plan is None:
        return None
    before, older, after = plan
    settings = spec.settings
    most = request.max_output_tokens or settings.max_output_tokens
    wanted = max(asked.room.target_tokens // 2, _LEAST_TOKENS)
    return SummaryCall(
        request=request.model_copy(
            update={
                "spec": f"{request.spec}/summary",
                "max_output_tokens": wanted if most is None else min(wanted, most),
            }
        ),
        spec=spec.model_copy(
            update={
                "instructions": policy.instructions or SUMMARY_INSTRUCTIONS,
                "models": spec.models if policy.model is None else (policy.model,),
                "tools": (),
                "output": None,
                "settings": settings.model_copy(update={"stop": ()}),
            }
        ),
        prompt=summary_prompt(older, asked.room, asked.prompt_tokens),
        _before=before,
        _count=len(older),
        _after=after,
    )


def no_summary() -> CallModelResult:
    """Return the result of a call that was not made, since there is nothing to summarise."""
    return CallModelResult(
        message=Message(role="assistant"), usage=NO_USAGE, problem="There is nothing to summarise."
    )
