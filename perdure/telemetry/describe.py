"""What a span says of a call that was made. Activity side; pure."""

import json
from collections.abc import Callable, Sequence
from typing import Any

from perdure.contracts import span_names as names
from perdure.contracts.calls import CallModelResult, CallToolResult, SharedModelResult, SharedToolResult
from perdure.contracts.messages import (
    Message,
    ReasoningPart,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)
from perdure.contracts.tracing import AttributeValue
from perdure.contracts.usage import Usage
from perdure.telemetry.notes import CallNotes

Redact = Callable[[str], str]


def result_attributes(result: object) -> dict[str, AttributeValue]:
    """Return what a result says of itself, without its content."""
    match result:
        case CallModelResult():
            return _reply_attributes(result)
        case SharedModelResult(result=reply):
            return _reply_attributes(reply)
        case CallToolResult(message=message, is_saved=is_saved):
            return _tool_attributes(message, is_saved=is_saved)
        case SharedToolResult(message=message):
            return _tool_attributes(message, is_saved=False)
        case _:
            return {}


def tool_outcome(result: object) -> str:
    """Return how a tool call went; empty for what is none."""
    return str(result_attributes(result).get(names.OUTCOME, ""))


def _reply_attributes(result: CallModelResult) -> dict[str, AttributeValue]:
    message, usage = result.message, result.usage
    found: dict[str, AttributeValue] = {
        **_usage_attributes(usage),
        names.RESPONSE_MODEL: (message.model or "").partition(":")[2],
        names.FINISH_REASONS: (message.stop or "other",),
    }
    if result.problem:
        found[names.PROBLEM] = True
    if result.saved is not None:
        found[names.IS_SAVED] = True
    return found


def _usage_attributes(usage: Usage) -> dict[str, AttributeValue]:
    found: dict[str, AttributeValue] = {
        names.INPUT_TOKENS: usage.input_tokens,
        names.OUTPUT_TOKENS: usage.output_tokens,
    }
    parts = {
        names.CACHED_TOKENS: usage.cached_tokens,
        names.CACHE_WRITE_TOKENS: usage.cache_write_tokens,
        names.REASONING_TOKENS: usage.reasoning_tokens,
    }
    found |= {name: count for name, count in parts.items() if count}
    if usage.cost_usd is not None:
        found[names.COST] = float(usage.cost_usd)
    return found


def _tool_attributes(message: Message, *, is_saved: bool) -> dict[str, AttributeValue]:
    result = message.parts[0] if message.parts else None
    if not isinstance(result, ToolResultPart):
        return {}
    found: dict[str, AttributeValue] = {names.OUTCOME: result.outcome, names.TOOL_TYPE: "function"}
    if result.call_id:
        found[names.TOOL_CALL] = result.call_id
    if is_saved:
        found[names.IS_SAVED] = True
    return found


def content_attributes(notes: CallNotes, result: object, redact: Redact) -> dict[str, AttributeValue]:
    """Return what was said, without secrets; only for those who switched it on."""
    found: dict[str, AttributeValue] = {}
    if notes.messages is not None:
        found[names.INPUT_MESSAGES] = redact(_to_json(notes.messages()))
        if notes.spec is not None and notes.spec.instructions:
            part = {"type": "text", "content": notes.spec.instructions}
            found[names.INSTRUCTIONS] = redact(json.dumps([part], ensure_ascii=False))
    if notes.arguments is not None:
        found[names.TOOL_ARGUMENTS] = redact(notes.arguments)
    match result:
        case CallModelResult(message=message):
            found[names.OUTPUT_MESSAGES] = redact(_to_json([message]))
        case CallToolResult(message=message) | SharedToolResult(message=message):
            found[names.TOOL_RESULT] = redact(json.dumps(_parts(message), ensure_ascii=False))
        case _:
            pass
    return found


def _to_json(messages: Sequence[Message]) -> str:
    """Return messages as the conventions write them."""
    return json.dumps(
        [{"role": message.role, "parts": _parts(message)} for message in messages], ensure_ascii=False
    )


def _parts(message: Message) -> list[dict[str, Any]]:
    return [_part(part) for part in message.parts]


def _part(part: object) -> dict[str, Any]:
    match part:
        case TextPart(text=text):
            return {"type": "text", "content": text}
        case ReasoningPart(text=text):
            return {"type": "reasoning", "content": text}
        case ToolCallPart(id=call_id, name=name, arguments=arguments):
            return {"type": "tool_call", "id": call_id, "name": name, "arguments": arguments}
        case ToolResultPart(call_id=call_id, content=content):
            return {"type": "tool_call_response", "id": call_id, "response": [_part(each) for each in content]}
        case _:
            return {"type": type(part).__name__}
