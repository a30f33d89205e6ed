"""The fakes speak as the vendors do: the official types and the official clients take what they say."""

import json
from typing import Any

import pytest
from anthropic import AsyncAnthropic
from anthropic.types import Message, RawMessageStreamEvent
from openai import AsyncOpenAI
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from pydantic import TypeAdapter

from tests.fakes import anthropic_server, openai_server
from tests.fakes.anthropic_server import AnthropicServer
from tests.fakes.openai_server import OpenAIServer
from tests.fakes.replies import FakeCall, FakeReply

REPLIES = [
    FakeReply(text="Hello there"),
    FakeReply(text="Let me see.", calls=(FakeCall("call_1", "weather", '{"city": "Oslo"}'),)),
    FakeReply(reasoning="Hm, hm", calls=(FakeCall("a", "x", "{}"), FakeCall("b", "y", '{"n": [1, 2]}'))),
    FakeReply(text="cut", stop="length", cached_tokens=9, cache_write_tokens=3, reasoning_tokens=2),
    FakeReply(refusal="I would rather not."),
]


def valid(kind: Any, value: Any) -> None:
    TypeAdapter(kind).validate_json(json.dumps(value), strict=True)


@pytest.mark.parametrize("reply", REPLIES)
def test_openai_payloads_are_of_the_official_types(reply: FakeReply) -> None:
    valid(ChatCompletion, openai_server.completion(reply, "m"))
    for chunk in openai_server.chunks(reply, "m"):
        valid(ChatCompletionChunk, chunk)


@pytest.mark.parametrize("reply", [reply for reply in REPLIES if reply.stop is None])
def test_anthropic_payloads_are_of_the_official_types(reply: FakeReply) -> None:
    valid(Message, anthropic_server.message(reply, "m"))
    for event in anthropic_server.events(reply, "m"):
        if event["type"] != "ping":  # which the clients drop before they look at types
            valid(RawMessageStreamEvent, event)


async def test_the_official_openai_client_understands_the_fake() -> None:
    async with OpenAIServer(REPLIES[1]) as server, AsyncOpenAI(base_url=server.base_url, api_key="k") as client:
        messages: Any = [{"role": "user", "content": "Hi"}]
        whole = await client.chat.completions.create(model="m", messages=messages)
        stream = await client.chat.completions.create(model="m", messages=messages, stream=True)
        chunks = [chunk async for chunk in stream]
    calls = whole.choices[0].message.tool_calls
    assert calls
    assert calls[0].id == "call_1"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "Let me see."
    assert chunks[-1].usage == whole.usage


async def test_the_official_anthropic_client_understands_the_fake() -> None:
    async with AnthropicServer(REPLIES[1]) as server, AsyncAnthropic(base_url=server.url, api_key="k") as client:
        messages: Any = [{"role": "user", "content": "Hi"}]
        whole = await client.messages.create(model="m", max_tokens=9, messages=messages)
        async with client.messages.stream(model="m", max_tokens=9, messages=messages) as stream:
            streamed = await stream.get_final_message()
    assert [block.type for block in whole.content] == ["text", "tool_use"]
    assert streamed.content[1].input == whole.content[1].input == {"city": "Oslo"}  # pyright: ignore
    assert streamed.stop_reason == "tool_use"
