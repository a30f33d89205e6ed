"""Activity side; owns the requests of Anthropic's Messages API."""

from typing import ClassVar, Literal

from perdure.contracts.messages import Message
from perdure.contracts.spec import FINAL_OUTPUT_TOOL, ToolSpec
from perdure.providers import _anthropic_messages
from perdure.providers._anthropic_messages import THINKING_STARTS
from perdure.providers._anthropic_models import plan_thinking, sampling, takes_forced_tool
from perdure.providers._anthropic_reply import AnthropicReply
from perdure.providers._provider import HttpProvider, OutputChoice, offered_tools, output_limit
from perdure.providers._wire import Json, dumps, json_array, json_object, ordered
from perdure.providers.base import BlobReader, Fragment, ModelReply, ModelRequest, TextSink

API_VERSION = "2023-06-01"

_SPLICED = frozenset({"messages"})
"""Members that `settings.extra` can't replace: they are written from the fragments."""
_CACHED: Json = {"cache_control": {"type": "ephemeral"}}
_CACHED_MEMBER = b',"cache_control":{"type":"ephemeral"}}'
_FIRST_MESSAGE = b'{"role":"user","content":[{"type":"text","text":"(earlier messages were left out)"}]}'
_NO_TOOL: Json = {
    "name": "no_tool",
    "description": "There are no tools any more. Never call this.",
    "input_schema": {"type": "object"},
}


class AnthropicProvider(HttpProvider):
    """The Messages API."""

    protocol_name: ClassVar[str] = _anthropic_messages.PROTOCOL
    default_output: ClassVar[Literal["native", "tool"]] = "tool"

    def encode(self, message: Message, read_blob: BlobReader) -> Fragment:
        """Return `message` in the wire format."""
        return _anthropic_messages.encode(message, read_blob)

    async def call(self, request: ModelRequest, on_text: TextSink) -> ModelReply:
        """Ask the model once; cancelling closes the connection.

        Raises:
            ModelCallError: the attempt failed; `kind` says what to do.
            UnknownModelError: the key is missing. Not retryable.
        """
        self.check()
        errors = self._errors()
        key = self._config.api_key()
        headers = {"anthropic-version": API_VERSION} | ({"x-api-key": key} if key else {})
        reply = AnthropicReply(f"{self.name}:{request.model}", on_text, errors)
        # Other vendors' base URLs end in /v1, so people write it here too.
        path = "/messages" if self._config.endpoint("").partition("?")[0].endswith("/v1") else "/v1/messages"
        return await self._exchange(path, request, headers=headers, reply=reply, errors=errors)

    def body(self, request: ModelRequest) -> list[bytes]:
        """Return the request's body; the conversation's pieces are as they were encoded, once."""
        choice = self._output_choice(request)
        fields: dict[str, bytes | list[bytes]] = {"model": dumps(request.model)}
        fields |= self._stable_prefix(request, choice)
        options = self._options(request, choice, "tools" in fields)
        fields |= {name: dumps(value) for name, value in options.items()}
        extra = request.settings.extra or {}
        fields |= {name: dumps(value) for name, value in extra.items() if name not in _SPLICED}
        fields["messages"] = _messages(request)
        return json_object(fields.items())

    def _stable_prefix(self, request: ModelRequest, choice: OutputChoice) -> dict[str, bytes]:
        """Return tools and instructions, each with a mark up to which the vendor caches the prompt."""
        fields: dict[str, bytes] = {}
        offered = offered_tools(request, choice, can_force=takes_forced_tool(request.model))
        tools = [_tool(tool) for tool in offered]
        if tools:
            tools[-1] |= _CACHED
            key = ("tools", request.cache_key, choice, request.model, str(len(tools)))
            fields["tools"] = self._encode_once(request, key, tools)
        elif any(fragment.role == "tool" for fragment in request.fragments):
            # A conversation with tool calls in it is refused where no tool is defined.
            fields["tools"] = dumps([_NO_TOOL])
        if request.instructions.strip():
            system = [{"type": "text", "text": request.instructions, **_CACHED}]
            fields["system"] = self._encode_once(request, ("system", request.cache_key), system)
        return fields

    def _options(self, request: ModelRequest, choice: OutputChoice, has_tools: bool) -> Json:
        settings = request.settings
        tool_choice = _tool_choice(request, choice) if has_tools else None
        is_forced = tool_choice is not None and tool_choice["type"] == "tool"
        thinking = plan_thinking(
            request.model,
            settings.reasoning_effort,
            limit=output_limit(request),
            is_forced=is_forced,
            is_midway=_is_turn_without_thinking(request),
        )
        options: Json = {"max_tokens": thinking.max_tokens, **thinking.fields}
        options |= sampling(request.model, settings, is_thinking=bool(thinking.fields))
        if tool_choice:
            options["tool_choice"] = tool_choice
        if output_config := _output_config(request, choice, thinking.effort):
            options["output_config"] = output_config
        if stops := [stop for stop in settings.stop if stop.strip()]:
            options["stop_sequences"] = stops
        if settings.stream:
            options["stream"] = True
        return options


def _tool(tool: ToolSpec) -> Json:
    described = {"description": tool.description} if tool.description else {}
    return {"name": tool.name, **described, "input_schema": {"type": "object", **tool.parameters}}


def _tool_choice(request: ModelRequest, choice: OutputChoice) -> Json | None:
    """Say which tool must be called, or that none may be; None leaves it to the model."""
    may_call = bool(request.tools) and request.may_call_tools
    if choice == "tool" and not may_call:
        return {"type": "tool", "name": FINAL_OUTPUT_TOOL} if takes_forced_tool(request.model) else None
    if not may_call:
        return {"type": "none"}
    if request.settings.parallel_tool_calls is None:
        return None
    return {"type": "auto", "disable_parallel_tool_use": not request.settings.parallel_tool_calls}


def _output_config(request: ModelRequest, choice: OutputChoice, effort: str | None) -> Json:
    config: Json = {"effort": effort} if effort else {}
    if choice == "native" and request.output is not None:
        config["format"] = {"type": "json_schema", "schema": request.output.parameters}
    return config


def _is_turn_without_thinking(request: ModelRequest) -> bool:
    """Whether tool results answer a message that holds no thinking: then thinking can't begin now."""
    for fragment in reversed(request.fragments):
        if fragment.role == "user":
            return False
        if fragment.role == "assistant" and fragment.body:
            return not fragment.body.startswith(THINKING_STARTS)
    return False


def _messages(request: ModelRequest) -> list[bytes]:
    """Join the conversation; the last two of the user's messages end in a mark for the vendor's cache.

    The last one lets the next call read all of this prompt; the one before is where this call reads from.
    """
    runs = list(ordered(request.fragments))
    users = [index for index, (role, _) in enumerate(runs) if role == "user"]
    marked = set(users[-2:])
    messages = [_message(role, bodies, index in marked) for index, (role, bodies) in enumerate(runs)]
    if runs and runs[0][0] == "assistant":
        messages.insert(0, _FIRST_MESSAGE)
    return json_array(messages)


def _message(role: str, bodies: list[bytes], is_marked: bool) -> bytes:
    if is_marked:
        # A body ends with the brace of its last block, and every block of a user's may be marked.
        bodies = [*bodies[:-1], bodies[-1][:-1], _CACHED_MEMBER]
        joined = b",".join(bodies[:-1]) + bodies[-1]
    else:
        joined = b",".join(bodies)
    return b'{"role":"%b","content":[%b]}' % (role.encode(), joined)
