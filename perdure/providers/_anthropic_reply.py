"""Activity side; owns making a message of what the Messages API answers, streamed or whole. No I/O."""

from typing import Any
from uuid import uuid4

from perdure.contracts.messages import Message, Part, ReasoningPart, StopReason, TextPart, ToolCallPart
from perdure.contracts.usage import Usage
from perdure.providers._anthropic_messages import PROTOCOL
from perdure.providers._errors import VendorErrors
from perdure.providers._wire import (
    Json,
    as_count,
    as_dict,
    as_list,
    as_text,
    dumps,
    parse_arguments,
    whole_text,
)
from perdure.providers.base import ModelReply, TextSink

_STOPS: dict[str, StopReason] = {
    "end_turn": "end",
    "stop_sequence": "end",
    "tool_use": "tool_calls",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "refusal": "refusal",
}


class _Block:
    """A content block that grows by deltas."""

    def __init__(self, start: Json) -> None:
        self.start = start
        self.text = [as_text(start.get("text")), as_text(start.get("thinking"))]
        self.signature = [as_text(start.get("signature"))]
        self.input_json: list[str] = []

    def part(self) -> Part | None:
        kind = self.start.get("type")
        text = whole_text(self.text)
        if kind == "text":
            return TextPart(text=text) if text else None
        if kind == "tool_use":
            return ToolCallPart(
                id=as_text(self.start.get("id")) or f"toolu_{uuid4().hex[:24]}",
                name=as_text(self.start.get("name")),
                arguments=self._arguments(),
            )
        if kind == "thinking":
            block: Json = {"type": kind, "signature": "".join(self.signature)}
            return ReasoningPart(text=text, vendor={PROTOCOL: block} if block["signature"] else None)
        # Redacted thinking, and whatever the vendor adds: it goes back as it came.
        block = dict(self.start)
        if self.input_json:
            block["input"] = parse_arguments(self._arguments()) or {}
        return ReasoningPart(vendor={PROTOCOL: block}) if kind else None

    def _arguments(self) -> str:
        return whole_text(self.input_json).strip() or dumps(as_dict(self.start.get("input"))).decode()


class AnthropicReply:
    """Collects one reply, event by event."""

    def __init__(self, model: str, on_text: TextSink, errors: VendorErrors) -> None:
        self._model = model
        self._on_text = on_text
        self._errors = errors
        self._blocks: dict[int, _Block] = {}
        self._stop = ""
        self._usage: Json = {}
        self.is_done = False
        """Whether the vendor's last event was read."""

    def add(self, value: Any) -> None:
        """Take one event of a stream; kinds that are unknown are skipped, as the API demands."""
        event = as_dict(value)
        kind = event.get("type")
        if kind == "error":
            raise self._errors.event(event)
        if kind == "message_start":
            self._add_usage(as_dict(event.get("message")).get("usage"))
        elif kind == "content_block_start":
            self._start_block(as_count(event.get("index")), as_dict(event.get("content_block")))
        elif kind == "content_block_delta":
            self._take_delta(as_count(event.get("index")), as_dict(event.get("delta")))
        elif kind == "message_delta":
            self._stop = as_text(as_dict(event.get("delta")).get("stop_reason")) or self._stop
            self._add_usage(event.get("usage"))
        elif kind == "message_stop":
            self.is_done = True

    def add_whole(self, value: Any) -> None:
        """Take a reply that was not streamed."""
        body = as_dict(value)
        if body.get("type") == "error":
            raise self._errors.event(body)
        if not isinstance(body.get("content"), list):
            raise self._errors.failed("an answer without content.", may_be_billed=True)
        for index, block in enumerate(as_list(body["content"])):
            self._start_block(index, as_dict(block))
        self._stop = as_text(body.get("stop_reason"))
        self._add_usage(body.get("usage"))
        self.is_done = True

    def finish(self) -> ModelReply:
        """Return the reply.

        Raises:
            ModelCallError: it isn't whole.
        """
        if not self.is_done:
            raise self._errors.failed("the stream ended before the reply did.", may_be_billed=True)
        parts = tuple(part for _, block in sorted(self._blocks.items()) if (part := block.part()))
        stop = _STOPS.get(self._stop, "other")
        if stop == "end" and any(isinstance(part, ToolCallPart) for part in parts):
            stop = "tool_calls"
        message = Message(role="assistant", parts=parts, model=self._model, stop=stop)
        return ModelReply(
            message=message, usage=_usage(self._usage), is_usage_known="output_tokens" in self._usage
        )

    def _start_block(self, index: int, start: Json) -> None:
        self._blocks[index] = _Block(start)
        if text := as_text(start.get("text")):
            self._on_text(text)

    def _take_delta(self, index: int, delta: Json) -> None:
        block = self._blocks.setdefault(index, _Block({}))
        kind = delta.get("type")
        if kind == "text_delta":
            text = as_text(delta.get("text"))
            block.text.append(text)
            self._on_text(text)
        elif kind == "input_json_delta":
            block.input_json.append(as_text(delta.get("partial_json")))
        elif kind == "thinking_delta":
            block.text.append(as_text(delta.get("thinking")))
        elif kind == "signature_delta":
            block.signature.append(as_text(delta.get("signature")))

    def _add_usage(self, usage: object) -> None:
        """Keep the newest counts: those of a later event are cumulative, and null where they are unchanged."""
        self._usage |= {name: value for name, value in as_dict(usage).items() if value is not None}


def _usage(usage: Json) -> Usage:
    """Add up the prompt: the vendor counts what was read from or written to its cache apart."""
    cached = as_count(usage.get("cache_read_input_tokens"))
    written = as_count(usage.get("cache_creation_input_tokens"))
    output = as_count(usage.get("output_tokens"))
    thought = as_count(as_dict(usage.get("output_tokens_details")).get("thinking_tokens"))
    return Usage(
        input_tokens=as_count(usage.get("input_tokens")) + cached + written,
        cached_tokens=cached,
        cache_write_tokens=written,
        output_tokens=output,
        reasoning_tokens=min(thought, output),
    )
