"""Any conversation is a valid body for both vendors, and no tool call is lost on the way."""

import json
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from perdure.contracts.messages import (
    FilePart,
    ImagePart,
    Message,
    Outcome,
    Part,
    ReasoningPart,
    TextPart,
    ToolCallPart,
    ToolResultPart,
    user_message,
)
from perdure.providers._http import HttpLayer
from perdure.providers.anthropic import AnthropicProvider
from perdure.providers.openai import OpenAIProvider
from perdure.providers.registry import ProviderConfig
from tests.activities.providers.helpers import BLOB, WEATHER, body_of, check_body, request_of

OPENAI = OpenAIProvider(ProviderConfig(name="o", protocol="openai", base_url="http://o"), HttpLayer())
ANTHROPIC = AnthropicProvider(ProviderConfig(name="a", protocol="anthropic", base_url="http://a"), HttpLayer())

words = st.text(st.characters(codec="utf-8"), max_size=12)
texts = st.builds(TextPart, text=words)
media_types = st.sampled_from(["", "image/png", "image/bmp", "application/pdf", "text/plain", "a/b"])
images = st.one_of(
    st.builds(ImagePart, media_type=media_types, blob=st.just(BLOB)),
    st.builds(ImagePart, url=st.sampled_from(["https://x/y", "data:image/png;base64,YWJj", "data:,x"])),
)
files = st.one_of(
    st.builds(FilePart, media_type=media_types, name=words, blob=st.just(BLOB)),
    st.builds(FilePart, media_type=media_types, name=words, url=st.just("https://x/y")),
)
content = st.one_of(texts, images, files)
vendors: st.SearchStrategy[Any] = st.sampled_from(
    [
        None,
        {},
        {"anthropic": {"type": "thinking", "thinking": "Hm", "signature": "s"}},
        {"anthropic": {"type": "redacted_thinking", "data": "d"}},
        {"openai": {"reasoning_field": "reasoning_content"}},
        {"other": {"x": 1}},
    ]
)
reasoning = st.builds(ReasoningPart, text=words, vendor=vendors)
arguments = st.sampled_from(["{}", '{"city":"Oslo","n":[1,{"x":null}]}', '{"city": ', "", "[]", "1e999"])
outcomes: st.SearchStrategy[Outcome] = st.sampled_from(["ok", "error", "unknown", "denied"])


@st.composite
def turns(draw: st.DrawFn) -> list[Message]:
    """Draw an assistant's message, and the answers to its calls in any order, with a user in between."""
    names = draw(st.lists(words, max_size=3))
    calls = [ToolCallPart(id=f"{name}:{draw(st.uuids())}", name=name, arguments=draw(arguments)) for name in names]
    said: list[Part] = [*draw(st.lists(st.one_of(texts, reasoning), max_size=3)), *calls]
    answers = [
        Message(
            role="tool",
            parts=(
                ToolResultPart(
                    call_id=call.id,
                    name=call.name,
                    content=tuple(draw(st.lists(content, max_size=2))),
                    outcome=draw(outcomes),
                ),
            ),
        )
        for call in calls
    ]
    users = [Message(role="user", parts=tuple(draw(st.lists(content, max_size=2))))]
    return [Message(role="assistant", parts=tuple(said)), *draw(st.permutations(answers + users))]


conversations = st.lists(turns(), max_size=4).map(
    lambda rounds: [user_message("Hi"), *(message for turn in rounds for message in turn)]
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(conversations)
def test_every_conversation_is_valid_for_both(conversation: list[Message]) -> None:
    count = sum(len(message.tool_calls) for message in conversation)
    check_openai(json.loads(b"".join(OPENAI.body(request_of(OPENAI, *conversation)))), count)
    check_anthropic(body_of(ANTHROPIC, *conversation, tools=(WEATHER,)), count)


def check_openai(body: dict[str, Any], count: int) -> None:
    """Each run of results must answer the calls before it, all of them and nothing else."""
    waiting: set[str] = set()
    seen = 0
    for message in body["messages"]:
        message.pop("reasoning_content", None)  # beyond OpenAI's own types
        if message["role"] == "tool":
            waiting.remove(message["tool_call_id"])
            continue
        assert not waiting
        waiting = {call["id"] for call in message.get("tool_calls", [])}
        seen += len(waiting)
    assert (waiting, seen) == (set(), count)
    check_body("openai", body)


def check_anthropic(body: dict[str, Any], count: int) -> None:
    """Roles alternate, and a message begins with the results of the calls in the one before."""
    waiting: list[str] = []
    seen = 0
    for index, message in enumerate(body["messages"]):
        assert message["role"] == ("user", "assistant")[index % 2]
        blocks = message["content"]
        assert blocks
        assert all(block["text"].strip() for block in blocks if block["type"] == "text")
        answered = [block["tool_use_id"] for block in blocks if block["type"] == "tool_result"]
        assert all(block["type"] == "tool_result" for block in blocks[: len(answered)])
        assert sorted(answered) == sorted(waiting)
        waiting = [block["id"] for block in blocks if block["type"] == "tool_use"]
        seen += len(waiting)
    assert (waiting, seen) == ([], count)
