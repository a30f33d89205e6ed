"""Reserving before a call and settling after it, as pure functions. Workflow side; no Temporal calls.

The worst case of a call is an upper bound, not an estimate:

- A token stands for at least one byte, so text of n bytes is at most n tokens. That is four times too much for
  English, but there is no lower bound that holds for every text (digits, base64, emoji).
- What the vendor has counted once needs no bound: a conversation only grows, so the prompt is the last one, as
  counted, and at most a token for each byte that came since. The bound is loose for the new part alone.
- The reply is at most `max_output_tokens`, which is always sent; reasoning is part of it.
- Every prompt token may be at the highest of the input prices: plain, read from the cache, written to it.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from perdure.contracts.budget import MAX_ARTIFACT_TOKENS, NOTHING, Amount, Budget, Ledger, amount_of, worst_case
from perdure.contracts.messages import ArtifactPart, FilePart, ImagePart, Message, ToolResultPart
from perdure.contracts.spec import AgentSpec
from perdure.contracts.usage import Price, Usage

DEFAULT_OUTPUT_TOKENS = 8192
"""The most that a reply may have where nobody said: without a bound there is no worst case."""
LEAST_OUTPUT_TOKENS = 256
"""A call with less room for its reply isn't worth its prompt."""
FINISH_OUTPUT_TOKENS = 1024
"""What is held back for the last call, where `on_limit` is `finish`."""

_FRAME_TOKENS = 1000
"""What a vendor puts around instructions and tools: at most some hundred tokens, a few hundred bytes of JSON."""
_SUMMARY_TOKENS = 2000
"""perdure's own instructions for a summariser, and what is around them."""
_MESSAGE_TOKENS = 64
_TOOL_TOKENS = 64
_MEDIA_TOKENS = 50_000
"""An image or a file: its bytes say nothing of its tokens. More than any vendor counts for an image."""


@dataclass(frozen=True)
class Hold:
    """What was reserved for a call, and what the call may use."""

    amount: Amount
    prompt_tokens: int
    """The most that the prompt can be."""
    output_tokens: int
    """The most that the reply may have; lowered where that made the call fit."""


def spec_tokens(spec: AgentSpec) -> int:
    """Return the most tokens that instructions, tools and output schema can be."""
    size = _FRAME_TOKENS + len(spec.instructions.encode(errors="replace"))
    for tool in spec.tools:
        size += _TOOL_TOKENS + len(tool.to_bytes())
    if spec.output is not None:
        size += _TOOL_TOKENS + len(json.dumps(spec.output.parameters)) + len(spec.output.name)
    return size


def message_tokens(message: Message) -> int:
    """Return the most tokens that a message can be."""
    media = 0
    for part in message.parts:
        inner = part.content if isinstance(part, ToolResultPart) else (part,)
        media += sum(isinstance(each, ImagePart | FilePart) for each in inner)
    artifacts = sum(isinstance(part, ArtifactPart) for part in message.parts)
    extra = media * _MEDIA_TOKENS + artifacts * MAX_ARTIFACT_TOKENS
    return _MESSAGE_TOKENS + len(message.to_bytes()) + extra


def prompt_tokens(ledger: Ledger, spec: AgentSpec, model: int, messages: Sequence[Message], epoch: int = 0) -> int:
    """Return the most tokens that the prompt of `messages` can be.

    Args:
        ledger: Knows the last prompt that was counted.
        spec: The agent.
        model: Index of the model that is asked.
        messages: The whole conversation.
        epoch: Of the conversation.
    """
    known = ledger.prompt
    if known is None or (known.spec, known.model, known.epoch) != (spec.digest, model, epoch):
        return spec_tokens(spec) + sum(map(message_tokens, messages))
    return known.tokens + sum(map(message_tokens, messages[known.slots :]))


def summary_frame(spec: AgentSpec, messages: int) -> int:
    """Return the most tokens that are put around the messages which a model is to summarise."""
    own = 0 if spec.compaction is None else len(spec.compaction.instructions.encode(errors="replace"))
    return _SUMMARY_TOKENS + _MESSAGE_TOKENS * messages + own


def reserve(
    ledger: Ledger,
    budget: Budget,
    price: Price | None,
    *,
    prompt: int,
    output: int,
    least: int = LEAST_OUTPUT_TOKENS,
    kept: Amount = NOTHING,
) -> tuple[Ledger, Hold] | None:
    """Hold back the worst case of a call, with as long a reply as there is room for.

    Args:
        ledger: What is spent and reserved.
        budget: What may be spent in all.
        price: Of the model; None where unknown.
        prompt: The most tokens that the prompt can be.
        output: The most that the reply shall have.
        least: The shortest reply that will do.
        kept: What must be left beside it.

    Returns:
        The new ledger and the hold; None when there is no room for the least reply.
    """
    taken = ledger.spent + ledger.reserved + kept
    low, high = min(least, output), output
    if not budget.holds(taken + worst_case(price, prompt, low)):
        return None
    if budget.holds(taken + worst_case(price, prompt, high)):
        low = high  # as nearly always
    while low < high:
        middle = (low + high + 1) // 2
        if budget.holds(taken + worst_case(price, prompt, middle)):
            low = middle
        else:
            high = middle - 1
    hold = Hold(worst_case(price, prompt, low), prompt, low)
    return ledger.model_copy(update={"reserved": ledger.reserved + hold.amount}), hold


def settle(ledger: Ledger, hold: Hold, used: Amount) -> Ledger:
    """Give up a reservation, and count what was used instead; `NOTHING` for a call that was not billed."""
    return ledger.model_copy(
        update={"spent": ledger.spent + used, "reserved": ledger.reserved - hold.amount},
    )


def used_by(usage: Usage, price: Price | None, hold: Hold) -> Amount:
    """Return what a call that was answered counts for: its worst case where the vendor didn't say."""
    is_unknown = usage.total_tokens == 0 or (usage.cost_usd is None and price is not None)
    return hold.amount if is_unknown else amount_of(usage, model_calls=1)
