"""`ScriptedModel`: a provider whose replies are written down. Activity side; no network, no key."""

import asyncio
import json
from collections.abc import Callable, Sequence
from typing import Any

from perdure.contracts.messages import Message, TextPart, ToolCallPart
from perdure.contracts.usage import Usage
from perdure.errors import InvalidInputError
from perdure.providers.base import BlobReader, Fragment, ModelReply, ModelRequest, TextSink

Reply = str | Message | Exception
Script = Sequence[Reply] | Callable[[ModelRequest, list[Message]], Reply]


def calls(*named: tuple[str, dict[str, Any]]) -> Message:
    """Return a reply that asks for tool calls: `calls(("search", {"query": "x"}))`."""
    parts = tuple(
        ToolCallPart(id=f"call_{index}", name=name, arguments=json.dumps(arguments))
        for index, (name, arguments) in enumerate(named)
    )
    return Message(role="assistant", parts=parts, stop="tool_calls")


class ScriptedModel:
    """Give it to `App(providers=[…])`, and name its models `scripted:anything`.

    Which reply comes is decided by how many the conversation holds already, so that a script goes on where it
    was after a crash, on whatever worker.

    Args:
        script: The replies in order (the last one is repeated), or a function of request and conversation.
        name: The prefix of its models.
        delay_seconds: How long each call takes.

    Raises:
        InvalidInputError: The script has no reply. Not retryable.

    Attributes:
        requests: What it was asked, in order.
    """

    protocol = "scripted"

    def __init__(self, script: Script, *, name: str = "scripted", delay_seconds: float = 0) -> None:
        """Take the script."""
        if not callable(script) and not script:
            raise InvalidInputError("A script needs at least one reply; the last one is repeated.")
        self.name = name
        self.requests: list[ModelRequest] = []
        self._script = script
        self._delay_seconds = delay_seconds

    def check(self) -> None:
        """Nothing is needed."""

    def encode(self, message: Message, read_blob: BlobReader) -> Fragment:
        """Return the message's own JSON."""
        return Fragment(message.role, message.to_bytes())

    async def call(self, request: ModelRequest, on_text: TextSink) -> ModelReply:
        """Return the next reply, or raise it."""
        self.requests.append(request)
        if self._delay_seconds:
            await asyncio.sleep(self._delay_seconds)
        messages = [Message.model_validate_json(each.body) for each in request.fragments]
        reply = self._next(request, messages)
        if isinstance(reply, Exception):
            raise reply
        if isinstance(reply, str):
            reply = Message(role="assistant", parts=(TextPart(text=reply),), stop="end")
        on_text(reply.text)
        size = sum(len(each.body) for each in request.fragments)
        return ModelReply(message=reply, usage=Usage(input_tokens=size // 4, output_tokens=10))

    def _next(self, request: ModelRequest, messages: list[Message]) -> Reply:
        if callable(self._script):
            return self._script(request, messages)
        answered = sum(message.role == "assistant" for message in messages)
        return self._script[min(answered, len(self._script) - 1)]
