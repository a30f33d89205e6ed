"""When a conversation nears the model's context window, as pure functions. Workflow side; no Temporal calls.

A prompt is the last one, as its vendor counted it, and an estimate of what came since. The estimate goes by the
tokens that a byte of this conversation took so far. Where it errs the vendor says that the prompt is too long,
which makes room as well. What is decided here gives commands: a change of it needs `workflow.patched`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from perdure.contracts.budget import PromptSize
from perdure.contracts.compaction import Room, tokens_of
from perdure.contracts.spec import AgentSpec, CompactionSpec

TOKENS_PER_BYTE = 0.3
"""Before anything was counted: English has about 0.22, JSON and code 0.3, most other scripts less than 0.35."""

_LEAST_RATE, _MOST_RATE = 0.1, 1.0
_REPLY_TOKENS = 8192
"""Kept free for the reply where nobody said how long it may be, but at most a quarter of the window."""
_TOOL_TOKENS = 30
_LEAST_TARGET = 200


@dataclass(frozen=True)
class Prompt:
    """How long the next prompt is, about.

    Attributes:
        tokens: All of it.
        messages_tokens: The messages of the conversation alone.
        tokens_per_byte: Of this conversation.
    """

    tokens: int
    messages_tokens: int
    tokens_per_byte: float


def room_for_prompts(spec: AgentSpec) -> int | None:
    """Return the most tokens that a prompt may have, in the context window of the first model; None if unknown."""
    window = spec.models[0].context_window_tokens
    if spec.compaction is not None and spec.compaction.context_window_tokens is not None:
        window = spec.compaction.context_window_tokens
    if window is None:
        return None
    return window - min(spec.settings.max_output_tokens or _REPLY_TOKENS, window // 4)


def measure(spec: AgentSpec, weights: Sequence[tuple[int, int]], known: PromptSize | None, epoch: int) -> Prompt:
    """Return how long the prompt of a conversation is.

    Args:
        spec: The agent.
        weights: Of its messages.
        known: The last prompt that was counted.
        epoch: Of the conversation.
    """
    rate = TOKENS_PER_BYTE
    is_known = known is not None and (known.spec, known.epoch) == (spec.digest, epoch)
    if known is not None and is_known:
        counted = sum(size for size, _ in weights[: known.slots]) + _spec_bytes(spec)
        rate = min(max(known.tokens / counted, _LEAST_RATE), _MOST_RATE)
    sizes = [tokens_of(each, rate) for each in weights]
    if known is not None and is_known:
        tokens = known.tokens + sum(sizes[known.slots :])
        fixed = min(round(_spec_bytes(spec) * rate), known.tokens)
        return Prompt(tokens, max(tokens - fixed, 1), rate)
    return Prompt(sum(sizes) + round(_spec_bytes(spec) * rate), sum(sizes), rate)


def room_to_make(policy: CompactionSpec, prompt: Prompt, usable: int, *, share: float = 1) -> Room:
    """Return what is to be left of a conversation.

    Args:
        policy: The agent's.
        prompt: Of the conversation as it is.
        usable: Tokens that a prompt may have.
        share: Of what the policy leaves; less where that was not enough.
    """
    fixed = prompt.tokens - prompt.messages_tokens
    target = max(round(usable * policy.to * share) - fixed, _LEAST_TARGET)
    return Room(target_tokens=target, tokens_per_byte=round(prompt.tokens_per_byte, 3))


def _spec_bytes(spec: AgentSpec) -> int:
    tools = sum(len(tool.name) + len(tool.description) + len(str(tool.parameters)) for tool in spec.tools)
    return len(spec.instructions) + tools + _TOOL_TOKENS * (len(spec.tools) + 1)
