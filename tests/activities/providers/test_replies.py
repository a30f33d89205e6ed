"""Both protocols make the same message of the same reply, streamed or whole."""

import json
from typing import Any

import pytest

from perdure.contracts.messages import ReasoningPart, TextPart, ToolCallPart
from perdure.contracts.usage import Usage
from perdure.errors import ModelCallError
from perdure.providers._anthropic_reply import AnthropicReply
from perdure.providers._errors import VendorErrors
from perdure.providers._openai_reply import OpenAIReply
from tests.activities.providers.conftest import MakeProvider
from tests.activities.providers.helpers import ask, body_of, ignore, request_of
from tests.fakes.anthropic_server import SIGNATURE, AnthropicServer
from tests.fakes.openai_server import OpenAIServer
from tests.fakes.replies import FakeCall, FakeReply

SERVERS: dict[str, Any] = {"openai": OpenAIServer, "anthropic": AnthropicServer}
CALLS = (FakeCall("c_1", "weather", '{"city":"Oslo"}'), FakeCall("c_2", "time", "{}"))
BOTH = pytest.mark.parametrize("protocol", list(SERVERS))


def url_of(protocol: str, server: Any) -> str:
    return server.base_url if protocol == "openai" else server.url


@BOTH
@pytest.mark.parametrize("stream", [True, False])
async def test_a_reply_becomes_a_message(make_provider: MakeProvider, protocol: str, stream: bool) -> None:
    said = FakeReply(
        text="Let me see 🌦.", calls=CALLS, reasoning="Hm.", cached_tokens=10, cache_write_tokens=4, output_tokens=9
    )
    texts: list[str] = []
    async with SERVERS[protocol](said) as server:
        provider = make_provider(protocol, url_of(protocol, server))
        reply = await provider.call(request_of(provider, stream=stream), texts.append)
    thought, text, *_ = reply.message.parts
    assert isinstance(thought, ReasoningPart)
    assert thought.text == "Hm."
    assert text == TextPart(text=said.text)
    assert [(call.id, call.name, json.loads(call.arguments)) for call in reply.message.tool_calls] == [
        ("c_1", "weather", {"city": "Oslo"}),
        ("c_2", "time", {}),
    ]
    assert (reply.message.role, reply.message.stop, reply.message.model) == (
        "assistant",
        "tool_calls",
        "fake:model-1",
    )
    assert "".join(texts) == said.text
    assert len(texts) > 1 or not stream
    written = 4 if protocol == "anthropic" else 0
    total = 20 + (10 + 4 if protocol == "anthropic" else 0)
    assert reply.usage == Usage(input_tokens=total, cached_tokens=10, cache_write_tokens=written, output_tokens=9)
    assert reply.is_usage_known


@pytest.mark.parametrize(
    ("protocol", "word", "stop"),
    [
        ("openai", "stop", "end"),
        ("openai", "length", "length"),
        ("openai", "content_filter", "refusal"),
        ("openai", "something", "other"),
        ("anthropic", "end_turn", "end"),
        ("anthropic", "stop_sequence", "end"),
        ("anthropic", "max_tokens", "length"),
        ("anthropic", "model_context_window_exceeded", "length"),
        ("anthropic", "refusal", "refusal"),
        ("anthropic", "pause_turn", "other"),
    ],
)
@pytest.mark.parametrize("stream", [True, False])
async def test_stop_reasons(
    make_provider: MakeProvider, protocol: str, word: str, stop: str, stream: bool
) -> None:
    async with SERVERS[protocol](FakeReply(text="x", stop=word)) as server:
        reply = await ask(make_provider(protocol, url_of(protocol, server)), stream=stream)
    assert reply.message.stop == stop


@pytest.mark.parametrize("stream", [True, False])
async def test_a_refusal_is_text_and_a_stop_reason(make_provider: MakeProvider, stream: bool) -> None:
    async with OpenAIServer(FakeReply(refusal="I would rather not.")) as server:
        reply = await ask(make_provider("openai", server.base_url), stream=stream)
    assert (reply.message.text, reply.message.stop) == ("I would rather not.", "refusal")


@BOTH
async def test_headers_carry_the_key(
    make_provider: MakeProvider, protocol: str, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with SERVERS[protocol](FakeReply(text="x")) as server:
        provider = make_provider(protocol, url_of(protocol, server), headers={"X-Team": "blue"})
        await ask(provider)
        monkeypatch.setenv("FAKE_KEY", "rotated-key")
        await ask(provider)
        open_door = make_provider(protocol, url_of(protocol, server), api_key_env=None)
        await ask(open_door)
    name, prefix = ("authorization", "Bearer ") if protocol == "openai" else ("x-api-key", "")
    sent = [request.headers for request in server.requests]
    assert [headers.get(name) for headers in sent] == [prefix + key, f"{prefix}rotated-key", None]
    assert sent[0]["x-team"] == "blue"
    assert sent[0]["content-type"] == "application/json"
    assert sent[0]["content-length"] == str(len(server.requests[0].body))
    if protocol == "anthropic":
        assert sent[0]["anthropic-version"] == "2023-06-01"


async def test_thinking_goes_back_with_its_signature(make_provider: MakeProvider) -> None:
    async with AnthropicServer(FakeReply(reasoning="Hm, hm.", text="x")) as server:
        provider = make_provider("anthropic", server.url)
        reply = await ask(provider)
    body = body_of(provider, reply.message)
    assert body["messages"][1]["content"][0] == {
        "type": "thinking",
        "thinking": "Hm, hm.",
        "signature": SIGNATURE,
    }


def openai_reply(*chunks: Any, reasoning_field: str | None = None) -> Any:
    reply = OpenAIReply("fake:m", ignore, VendorErrors("fake"), reasoning_field)
    for chunk in chunks:
        reply.add(chunk)
    return reply.finish()


def delta(finish: str | None = None, **fields: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": fields, "finish_reason": finish}]}


def call_delta(**fields: Any) -> dict[str, Any]:
    function = {name: fields.pop(name) for name in ("name", "arguments") if name in fields}
    return delta(tool_calls=[{**fields, "function": function}])


@pytest.mark.parametrize(
    "chunks",
    [
        [call_delta(id="a", name="x", arguments="{}"), call_delta(id="b", name="y", arguments='{"n":1}')],
        [
            call_delta(index=0, id="a", name="x", arguments="{}"),
            call_delta(index=0, id="b", name="y", arguments='{"n":1}'),
        ],
        [
            call_delta(index=1, id="a", name="x", arguments=""),
            call_delta(index=2, id="b", name="y", arguments='{"n"'),
            call_delta(index=2, arguments=":1}"),
        ],
        [call_delta(id="a", name="x", arguments=None), call_delta(id="b", name="y", arguments={"n": 1})],
        [
            delta(
                tool_calls=[
                    {"id": "a", "function": {"name": "x", "arguments": "{}"}},
                    {"id": "b", "function": {"name": "y", "arguments": '{"n":1}'}},
                ]
            )
        ],
    ],
)
def test_tool_calls_are_told_apart_however_they_are_numbered(chunks: list[Any]) -> None:
    message = openai_reply(*chunks, delta("stop"), "[DONE]").message
    assert message.tool_calls == (
        ToolCallPart(id="a", name="x", arguments="{}"),
        ToolCallPart(id="b", name="y", arguments='{"n":1}'),
    )
    assert message.stop == "tool_calls"


def test_calls_without_an_id_get_one() -> None:
    calls = openai_reply(
        call_delta(index=0, name="x"), call_delta(index=1, name="x"), delta("tool_calls")
    ).message.tool_calls
    assert len({call.id for call in calls}) == 2
    assert all(call.id.startswith("call_") for call in calls)


def test_the_halves_of_an_emoji_meet() -> None:
    assert (
        openai_reply(delta(content="\ud83c"), delta("stop", content="\udf26 ok \ud83c")).message.text
        == "🌦 ok \ufffd"
    )


def test_a_reply_without_usage_says_so() -> None:
    reply = openai_reply(delta("stop", content="x"), "[DONE]")
    assert (reply.usage, reply.is_usage_known) == (Usage(), False)


@pytest.mark.parametrize(
    ("details", "cached", "written"),
    [
        ({"prompt_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 3}}, 4, 3),
        ({"prompt_cache_hit_tokens": 4}, 4, 0),
        ({"prompt_tokens_details": {"cached_tokens": 400, "cache_write_tokens": -1}}, 10, 0),
        ({"prompt_tokens_details": None}, 0, 0),
    ],
)
def test_cached_tokens_are_part_of_the_prompt(details: Any, cached: int, written: int) -> None:
    usage = {"prompt_tokens": 10, "completion_tokens": 2.0, **details}
    found = openai_reply(delta("stop", content="x"), {"choices": [], "usage": usage}).usage
    assert found == Usage(input_tokens=10, cached_tokens=cached, cache_write_tokens=written, output_tokens=2)


def test_an_error_of_vllm_within_a_stream_is_one() -> None:
    with pytest.raises(ModelCallError, match="fake broke off with an error: no more memory"):
        openai_reply(delta(content="x"), {"object": "error", "message": "no more memory", "code": 500})


def test_a_stream_may_end_in_done_alone() -> None:
    assert openai_reply(delta(content="x"), "[DONE]").message.stop == "end"


def test_reasoning_goes_back_where_the_provider_wants_it() -> None:
    part = openai_reply(
        delta(reasoning_content="Hm"), delta("stop", content="x"), reasoning_field="reasoning_content"
    ).message.parts[0]
    assert part.vendor == {"openai": {"reasoning_field": "reasoning_content"}}


def test_what_comes_with_a_call_is_kept() -> None:
    signed = {"google": {"thought_signature": "abc"}}
    message = openai_reply(
        call_delta(id="a", name="x", arguments="{}", extra_content=signed), delta("stop")
    ).message
    assert message.vendor == {"openai": {"call_extras": {"a": {"extra_content": signed}}}}


@pytest.mark.parametrize("junk", [None, [], {}, 3, "x", {"choices": None}, {"choices": [None]}, {"choices": [{}]}])
def test_chunks_of_no_sense_are_skipped(junk: Any) -> None:
    assert openai_reply(junk, delta("stop", content="x")).message.text == "x"


def anthropic_reply(*events: Any) -> Any:
    reply = AnthropicReply("fake:m", ignore, VendorErrors("fake"))
    for event in events:
        reply.add(event)
    reply.add({"type": "message_stop"})
    return reply.finish()


def block(index: int, start: dict[str, Any], *deltas: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"type": "content_block_start", "index": index, "content_block": start},
        *({"type": "content_block_delta", "index": index, "delta": each} for each in deltas),
    ]


def test_blocks_that_are_not_ours_go_back_as_they_came() -> None:
    search = {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}}
    redacted = {"type": "redacted_thinking", "data": "abc"}
    parts = anthropic_reply(
        *block(0, redacted),
        *block(1, search, {"type": "input_json_delta", "partial_json": '{"q": 1}'}),
    ).message.parts
    assert [part.vendor["anthropic"] for part in parts] == [redacted, {**search, "input": {"q": 1}}]


def test_thinking_without_a_signature_does_not_go_back() -> None:
    parts = anthropic_reply(
        *block(0, {"type": "thinking", "thinking": ""}, {"type": "thinking_delta", "thinking": "Hm"})
    ).message.parts
    assert parts == (ReasoningPart(text="Hm"),)


def test_later_usage_replaces_earlier() -> None:
    reply = anthropic_reply(
        {"type": "message_start", "message": {"usage": {"input_tokens": 5, "output_tokens": 1}}},
        {"type": "message_delta", "delta": {}, "usage": {"output_tokens": 9, "input_tokens": None}},
    )
    assert (reply.usage.input_tokens, reply.usage.output_tokens) == (5, 9)


@pytest.mark.parametrize("junk", [None, [], {}, 3, "x", {"type": "new_event"}, {"type": "content_block_delta"}])
def test_events_of_no_sense_are_skipped(junk: Any) -> None:
    assert anthropic_reply(junk, *block(1, {"type": "text", "text": "x"})).message.text == "x"
