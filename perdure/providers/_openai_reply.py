"""Activity side; owns making a message of what Chat Completions answers, streamed or whole. No I/O."""

from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from pydantic import JsonValue

from perdure.contracts.messages import Message, Part, ReasoningPart, StopReason, TextPart, ToolCallPart
from perdure.contracts.usage import Usage
from perdure.providers._errors import VendorErrors
from perdure.providers._openai_messages import CALL_EXTRAS, PROTOCOL, REASONING_FIELD
from perdure.providers._wire import Json, as_count, as_dict, as_list, as_text, dumps, whole_text
from perdure.providers.base import ModelReply, TextSink

_STOPS: dict[str, StopReason] = {
    "stop": "end",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "length": "length",
    "content_filter": "refusal",
}


@dataclass(slots=True)
class _Call:
    id: str = ""
    name: str = ""
    arguments: list[str] = field(default_factory=list[str])
    extras: Json = field(default_factory=dict[str, Any])


class OpenAIReply:
    """Collects one reply, chunk by chunk."""

    def __init__(self, model: str, on_text: TextSink, errors: VendorErrors, reasoning_field: str | None) -> None:
        self._model = model
        self._on_text = on_text
        self._errors = errors
        self._reasoning_field = reasoning_field
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._calls: list[_Call] = []
        self._by_index: dict[int, _Call] = {}
        self._is_refused = False
        self._finish: str | None = None
        self._usage: Json | None = None
        self.is_done = False
        """Whether the vendor's last event was read."""

    def add(self, chunk: Any) -> None:
        """Take one event of a stream."""
        if chunk == "[DONE]":
            self.is_done = True
            return
        self._take(as_dict(chunk), "delta")

    def add_whole(self, body: Any) -> None:
        """Take a reply that was not streamed."""
        self._take(as_dict(body), "message")
        self.is_done = True

    def finish(self) -> ModelReply:
        """Return the reply.

        Raises:
            ModelCallError: it isn't whole.
        """
        if self._finish is None and not (self.is_done and (self._text or self._calls)):
            why = "an answer without choices" if self.is_done else "the stream ended before the reply did"
            raise self._errors.failed(f"{why}.", may_be_billed=True)
        calls = self._finished_calls()
        extras: dict[str, JsonValue] = {
            part.id: call.extras for part, call in zip(calls, self._calls, strict=True) if call.extras
        }
        message = Message(
            role="assistant",
            parts=(*self._finished_text(), *calls),
            model=self._model,
            stop=self._stop(),
            vendor={PROTOCOL: {CALL_EXTRAS: extras}} if extras else None,
        )
        return ModelReply(message=message, usage=_usage(self._usage or {}), is_usage_known=bool(self._usage))

    def _take(self, chunk: Json, kind: str) -> None:
        if chunk.get("error") or chunk.get("object") == "error":
            raise self._errors.event(chunk)
        if usage := as_dict(chunk.get("usage")):
            self._usage = usage
        for choice in map(as_dict, as_list(chunk.get("choices"))[:1]):
            if choice.get("error"):
                raise self._errors.event(choice)
            self._take_delta(as_dict(choice.get(kind)))
            self._finish = as_text(choice.get("finish_reason")) or self._finish
            if kind == "message":
                self._finish = self._finish or "stop"

    def _take_delta(self, delta: Json) -> None:
        self._say(_content_text(delta.get("content")))
        if refusal := as_text(delta.get("refusal")):
            self._is_refused = True
            self._say(refusal)
        if thought := as_text(delta.get("reasoning_content")) or as_text(delta.get("reasoning")):
            self._reasoning.append(thought)
        for position, call in enumerate(map(as_dict, as_list(delta.get("tool_calls")))):
            self._take_call(call, position)

    def _say(self, text: str) -> None:
        if text:
            self._text.append(text)
            self._on_text(text)

    def _take_call(self, delta: Json, position: int) -> None:
        call = self._call_of(delta, position)
        function = as_dict(delta.get("function"))
        call.id = call.id or as_text(delta.get("id"))
        call.name = call.name or as_text(function.get("name"))
        arguments = function.get("arguments")
        # Some servers send the arguments as an object, which is not what the format says.
        as_object = as_dict(arguments)
        call.arguments.append(dumps(as_object).decode() if as_object else as_text(arguments))
        if extra := as_dict(delta.get("extra_content")):
            call.extras["extra_content"] = extra

    def _call_of(self, delta: Json, position: int) -> _Call:
        """Return the call that a delta belongs to.

        By its index, except that some servers number no calls, or all of them 0, and tell them by id.
        """
        index = delta.get("index")
        key = index if isinstance(index, int) else position
        known = self._by_index.get(key)
        new_id = as_text(delta.get("id"))
        if known is None or (new_id and known.id and new_id != known.id):
            known = self._by_index[key] = _Call()
            self._calls.append(known)
        return known

    def _finished_text(self) -> list[Part]:
        parts: list[Part] = []
        if thoughts := whole_text(self._reasoning):
            name = self._reasoning_field
            vendor: dict[str, JsonValue] | None = {PROTOCOL: {REASONING_FIELD: name}} if name else None
            parts.append(ReasoningPart(text=thoughts, vendor=vendor))
        if text := whole_text(self._text):
            parts.append(TextPart(text=text))
        return parts

    def _finished_calls(self) -> list[ToolCallPart]:
        used: set[str] = set()
        parts: list[ToolCallPart] = []
        for call in self._calls:
            call_id = call.id if call.id and call.id not in used else f"call_{uuid4().hex[:24]}"
            used.add(call_id)
            parts.append(
                ToolCallPart(id=call_id, name=call.name, arguments=whole_text(call.arguments).strip() or "{}")
            )
        return parts

    def _stop(self) -> StopReason:
        if self._is_refused:
            return "refusal"
        stop = _STOPS.get(self._finish or "stop", "other")
        return "tool_calls" if stop == "end" and self._calls else stop


def _content_text(content: object) -> str:
    if isinstance(content, str):
        return content
    return "".join(as_text(as_dict(item).get("text")) for item in as_list(content))


def _usage(usage: Json) -> Usage:
    prompt = as_count(usage.get("prompt_tokens"))
    completion = as_count(usage.get("completion_tokens"))
    details = as_dict(usage.get("prompt_tokens_details"))
    # DeepSeek has a name of its own; that of what was written is OpenRouter's.
    cached = min(as_count(details.get("cached_tokens") or usage.get("prompt_cache_hit_tokens")), prompt)
    written = min(as_count(details.get("cache_write_tokens")), prompt - cached)
    reasoning = as_count(as_dict(usage.get("completion_tokens_details")).get("reasoning_tokens"))
    return Usage(
        input_tokens=prompt,
        cached_tokens=cached,
        cache_write_tokens=written,
        output_tokens=completion,
        reasoning_tokens=min(reasoning, completion),
    )
