"""`ScriptedModel`, as users' tests use it."""

from collections.abc import Sequence
from typing import Any

import pytest

from perdure.contracts.messages import BlobRef, Message, TextPart, user_message
from perdure.errors import InvalidInputError, ModelCallError
from perdure.providers.base import ModelReply, ModelRequest, Provider, TextSink
from perdure.testing import ScriptedModel, calls


def no_blobs(ref: BlobRef) -> bytes:
    raise NotImplementedError


def ignore(text: str) -> None:
    """Take no notice of the text that streams by."""


async def ask(model: ScriptedModel, *messages: Message, sink: TextSink = ignore) -> ModelReply:
    fragments = [model.encode(message, no_blobs) for message in messages]
    return await model.call(ModelRequest(model="x", instructions="", fragments=fragments), sink)


def said(text: str) -> Message:
    return Message(role="assistant", parts=(TextPart(text=text),))


async def test_the_reply_is_chosen_by_the_conversation() -> None:
    model = ScriptedModel(["one", calls(("add", {"a": 1})), "three"])
    talk: Sequence[Message] = [user_message("hi"), said("one"), said("two"), said("three"), said("more")]
    assert (await ask(model, *talk[:1])).message.text == "one"
    assert (await ask(model, *talk[:1])).message.text == "one", "a retried call gets the same reply"
    assert (await ask(model, *talk[:2])).message.tool_calls[0].arguments == '{"a": 1}'
    assert (await ask(model, *talk)).message.text == "three", "the last reply is repeated"
    assert len(model.requests) == 4


async def test_a_function_sees_request_and_conversation() -> None:
    seen: list[Any] = []

    def script(request: ModelRequest, messages: list[Message]) -> str:
        seen.append((request, messages))
        return f"{len(messages)} messages"

    model = ScriptedModel(script)
    assert (await ask(model, user_message("hi"), said("x"))).message.text == "2 messages"
    assert seen == [(model.requests[0], [user_message("hi"), said("x")])]


async def test_an_exception_is_raised() -> None:
    error = ModelCallError("busy")
    with pytest.raises(ModelCallError) as caught:
        await ask(ScriptedModel([error]), user_message("hi"))
    assert caught.value is error


async def test_the_text_is_streamed_and_the_usage_counted() -> None:
    pieces: list[str] = []
    reply = await ask(ScriptedModel(["hello"], delay_seconds=0.001), user_message("hi"), sink=pieces.append)
    assert "".join(pieces) == "hello"
    assert reply.message.stop == "end"
    assert reply.usage.input_tokens > 0
    assert reply.usage.cost_usd is None


def test_it_is_a_provider_of_any_prefix() -> None:
    model = ScriptedModel(["x"], name="mine")
    assert isinstance(model, Provider)
    assert (model.name, model.protocol) == ("mine", "scripted")
    model.check()


def test_calls_have_ids_of_their_own() -> None:
    message = calls(("add", {"a": 1}), ("add", {"a": 2}))
    assert message.stop == "tool_calls"
    assert len({call.id for call in message.tool_calls}) == 2


def test_a_script_has_a_reply() -> None:
    with pytest.raises(InvalidInputError, match="at least one reply"):
        ScriptedModel([])
