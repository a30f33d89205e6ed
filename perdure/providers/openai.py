"""Activity side; owns the requests of OpenAI's Chat Completions API, which many other servers speak too.

Among them Ollama, vLLM, Groq, OpenRouter, and Gemini's compatible endpoint.
"""

from typing import Any, ClassVar, Literal
from urllib.parse import urlsplit

from perdure.contracts.messages import Message
from perdure.contracts.spec import FINAL_OUTPUT_TOOL, OutputSpec, ToolSpec
from perdure.providers import _openai_messages
from perdure.providers._openai_reply import OpenAIReply
from perdure.providers._provider import HttpProvider, OutputChoice, offered_tools, output_limit
from perdure.providers._strict import is_strict
from perdure.providers._wire import Json, dumps, json_array, json_object, ordered, safe_name
from perdure.providers.base import BlobReader, Fragment, ModelReply, ModelRequest, TextSink

_SPLICED = frozenset({"messages"})
"""Members that `settings.extra` can't replace: they are written from the fragments."""


class OpenAIProvider(HttpProvider):
    """Chat Completions, at OpenAI or at any server that speaks the format."""

    protocol_name: ClassVar[str] = _openai_messages.PROTOCOL
    default_output: ClassVar[Literal["native", "tool"]] = "native"

    def encode(self, message: Message, read_blob: BlobReader) -> Fragment:
        """Return `message` in the wire format."""
        return _openai_messages.encode(message, read_blob)

    async def call(self, request: ModelRequest, on_text: TextSink) -> ModelReply:
        """Ask the model once; cancelling closes the connection.

        Raises:
            ModelCallError: the attempt failed; `kind` says what to do.
            UnknownModelError: the key is missing. Not retryable.
        """
        self.check()
        errors = self._errors()
        key = self._config.api_key()
        headers = {"authorization": f"Bearer {key}"} if key else {}
        model = f"{self.name}:{request.model}"
        reply = OpenAIReply(model, on_text, errors, self._config.reasoning_field)
        return await self._exchange("/chat/completions", request, headers=headers, reply=reply, errors=errors)

    def body(self, request: ModelRequest) -> list[bytes]:
        """Return the request's body; the conversation's pieces are as they were encoded, once."""
        choice = self._output_choice(request)
        tools = offered_tools(request, choice)
        fields: dict[str, bytes | list[bytes]] = {"model": dumps(request.model)}
        if tools:
            key = ("tools", request.cache_key, choice)
            fields["tools"] = self._encode_once(request, key, [_tool(tool) for tool in tools])
            if tool_choice := _tool_choice(request, choice):
                fields["tool_choice"] = dumps(tool_choice)
        fields |= {name: dumps(value) for name, value in self._options(request, choice, bool(tools)).items()}
        extra = request.settings.extra or {}
        fields |= {name: dumps(value) for name, value in extra.items() if name not in _SPLICED}
        fields["messages"] = self._messages(request)
        return json_object(fields.items())

    def _options(self, request: ModelRequest, choice: OutputChoice, has_tools: bool) -> Json:
        settings = request.settings
        options: Json = {
            "temperature": settings.temperature,
            "top_p": settings.top_p,
            "seed": settings.seed,
            "stop": list(settings.stop) or None,
            "reasoning_effort": settings.reasoning_effort,
            self._max_tokens_field(): output_limit(request),
            "parallel_tool_calls": settings.parallel_tool_calls if has_tools else None,
        }
        if settings.stream:
            options |= {"stream": True, "stream_options": {"include_usage": True}}
        if choice == "native" and request.output is not None:
            options["response_format"] = _response_format(request.output)
        return {name: value for name, value in options.items() if value is not None}

    def _max_tokens_field(self) -> str:
        if self._config.max_tokens_field:
            return self._config.max_tokens_field
        host = urlsplit(self._config.url()).hostname or ""
        is_openai = host == "api.openai.com" or host.endswith(".openai.azure.com")
        return "max_completion_tokens" if is_openai else "max_tokens"

    def _messages(self, request: ModelRequest) -> list[bytes]:
        bodies = [body for _, run in ordered(request.fragments) for body in run]
        if request.instructions:
            system = {"role": "system", "content": request.instructions}
            bodies.insert(0, self._encode_once(request, ("system", request.cache_key), system))
        return json_array(bodies)


def _tool(tool: ToolSpec) -> Json:
    function = {"name": tool.name, "description": tool.description, "parameters": tool.parameters}
    return {"type": "function", "function": function}


def _tool_choice(request: ModelRequest, choice: OutputChoice) -> Any:
    """Say which tool must be called, or that none may be; None leaves it to the model."""
    if choice == "tool" and not (request.tools and request.may_call_tools):
        return {"type": "function", "function": {"name": FINAL_OUTPUT_TOOL}}
    return None if request.may_call_tools else "none"


def _response_format(output: OutputSpec) -> Json:
    schema = {
        "name": safe_name(output.name, longest=64),
        "schema": output.parameters,
        "strict": is_strict(output.parameters),
    }
    return {"type": "json_schema", "json_schema": schema}
