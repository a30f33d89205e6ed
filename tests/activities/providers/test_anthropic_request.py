"""What is sent in the Messages format; each body is checked against Anthropic's own types."""

from typing import Any

import pytest

from perdure.contracts.messages import (
    FilePart,
    ImagePart,
    Message,
    ReasoningPart,
    TextPart,
    ToolCallPart,
    tool_message,
    user_message,
)
from perdure.providers._anthropic_models import version_of
from perdure.providers.base import Provider
from tests.activities.providers.conftest import MakeProvider
from tests.activities.providers.helpers import BLOB, CITY, WEATHER, body_of, only

CALL = ToolCallPart(id="toolu_1", name="weather", arguments='{"city": "Oslo"}')
ASKED = Message(role="assistant", parts=(CALL,))
MARK = {"type": "ephemeral"}


@pytest.fixture
def provider(make_provider: MakeProvider) -> Provider:
    return make_provider("anthropic", "http://127.0.0.1:1")


def marks(value: Any) -> int:
    """Count the breakpoints in a body."""
    if isinstance(value, dict):
        return ("cache_control" in value) + sum(map(marks, value.values()))
    return sum(map(marks, value)) if isinstance(value, list) else 0


def test_the_least_request(provider: Provider) -> None:
    assert body_of(provider) == {
        "model": "model-1",
        "max_tokens": 8192,
        "stream": True,
        "system": [{"type": "text", "text": "Be brief.", "cache_control": MARK}],
        "messages": [{"role": "user", "content": [{"type": "text", "text": "Hello", "cache_control": MARK}]}],
    }
    assert body_of(provider, instructions=" ", stream=False).keys() == {"model", "max_tokens", "messages"}


def test_settings_have_their_fields(provider: Provider) -> None:
    body = body_of(
        provider,
        temperature=1.5,
        top_p=0.9,
        seed=7,
        stop=("END", " "),
        max_output_tokens=100,
        parallel_tool_calls=False,
        tools=(WEATHER,),
        extra={"metadata": {"user_id": "u"}, "messages": "never"},
    )
    assert (body["temperature"], body["stop_sequences"], body["max_tokens"]) == (1.0, ["END"], 100)
    assert body["metadata"] == {"user_id": "u"}
    assert body["tool_choice"] == {"type": "auto", "disable_parallel_tool_use": True}
    assert body.keys().isdisjoint({"top_p", "seed", "stop"})
    assert body_of(provider, top_p=0.9)["top_p"] == 0.9


def test_neighbours_of_one_role_become_one_message(provider: Provider) -> None:
    second = ToolCallPart(id="toolu_2", name="weather")
    messages = body_of(
        provider,
        user_message("Hi"),
        user_message("there"),
        Message(role="assistant", parts=(CALL, second)),
        tool_message(CALL, "cold"),
        user_message("hurry up"),
        tool_message(second, "warm", outcome="error"),
    )["messages"]
    assert [message["role"] for message in messages] == ["user", "assistant", "user"]
    assert [block["type"] for block in messages[2]["content"]] == ["tool_result", "tool_result", "text"]
    assert messages[2]["content"][1]["is_error"] is True
    assert messages[1]["content"][0] == {
        "type": "tool_use",
        "id": "toolu_1",
        "name": "weather",
        "input": {"city": "Oslo"},
    }


def test_breakpoints_let_the_next_call_read_this_prompt(provider: Provider) -> None:
    talk = [user_message("one"), ASKED, tool_message(CALL, "cold"), ASKED, tool_message(CALL, "warm")]
    body = body_of(provider, *talk, tools=(WEATHER, WEATHER))
    assert [marks(message) for message in body["messages"]] == [0, 0, 1, 0, 1]
    assert [marks(tool) for tool in body["tools"]] == [0, 1]
    assert marks(body) == 4
    assert body["messages"][-1]["content"][-1]["cache_control"] == MARK


def test_a_mark_goes_to_the_last_block_of_a_message(provider: Provider) -> None:
    content = body_of(provider, user_message("one"), user_message("two"))["messages"][0]["content"]
    assert [marks(block) for block in content] == [0, 1]


@pytest.mark.parametrize("broken", ['{"city": ', "[1]", "", "null"])
def test_broken_arguments_are_sent_as_an_empty_object(provider: Provider, broken: str) -> None:
    asked = Message(role="assistant", parts=(ToolCallPart(id="c", name="weather", arguments=broken),))
    assert body_of(provider, user_message("x"), asked)["messages"][1]["content"][0]["input"] == {}


def test_blank_text_is_left_out(provider: Provider) -> None:
    talk = [
        Message(role="user", parts=(TextPart(text=""), TextPart(text="a"), TextPart(text=" \n"))),
        Message(role="assistant", parts=(TextPart(text=""),)),
        user_message(""),
        ASKED,
        tool_message(CALL, ""),
    ]
    messages = body_of(provider, *talk)["messages"]
    assert [len(message["content"]) for message in messages] == [2, 1, 1]
    assert "content" not in only(messages[2]["content"])


def test_a_conversation_never_begins_with_the_assistant(provider: Provider) -> None:
    messages = body_of(provider, Message(role="assistant", parts=(TextPart(text="x"),)), user_message("y"))[
        "messages"
    ]
    assert [message["role"] for message in messages] == ["user", "assistant", "user"]


def test_pictures_and_files(provider: Provider) -> None:
    parts = (
        ImagePart(media_type="image/png", blob=BLOB),
        ImagePart(url="https://x/y.png"),
        ImagePart(url="data:image/gif;base64,YWJj"),
        ImagePart(media_type="image/tiff", blob=BLOB),
        FilePart(media_type="application/pdf", blob=BLOB, name="a.pdf"),
        FilePart(url="https://x/y.pdf"),
        FilePart(media_type="text/csv", blob=BLOB),
        FilePart(media_type="application/zip", blob=BLOB, name="a.zip"),
        FilePart(media_type="text/csv", url="https://x/y.csv", name="y"),
    )
    content = body_of(provider, tool_message(CALL, parts))["messages"][0]["content"][0]["content"]
    assert [block["type"] for block in content] == [
        *("image", "image", "image", "text", "document", "document", "document", "text", "text")
    ]
    assert content[0]["source"] == {"type": "base64", "media_type": "image/png", "data": "YWJj"}
    assert content[2]["source"] == {"type": "base64", "media_type": "image/gif", "data": "YWJj"}
    assert content[4]["title"] == "a.pdf"
    assert content[6]["source"] == {"type": "text", "media_type": "text/plain", "data": "abc"}


@pytest.mark.parametrize(
    "block",
    [
        {"type": "thinking", "thinking": "Hm", "signature": "s"},
        {"type": "redacted_thinking", "data": "d"},
    ],
)
def test_reasoning_of_the_vendor_goes_back_verbatim(provider: Provider, block: Any) -> None:
    thought = ReasoningPart(text="Hm", vendor={"anthropic": block})
    messages = body_of(provider, user_message("x"), Message(role="assistant", parts=(thought, CALL)))["messages"]
    assert messages[1]["content"][0] == block


def test_reasoning_of_another_vendor_is_left_out(provider: Provider) -> None:
    thought = ReasoningPart(text="Hm", vendor={"openai": {"reasoning_field": "reasoning"}})
    messages = body_of(provider, user_message("x"), Message(role="assistant", parts=(thought, CALL)))["messages"]
    assert only(messages[1]["content"])["type"] == "tool_use"


@pytest.mark.parametrize("mode", ["auto", "tool"])
def test_an_output_by_tool_is_forced_where_nothing_else_can_be_called(provider: Provider, mode: str) -> None:
    body = body_of(provider, output=CITY, output_mode=mode)
    tool = only(body["tools"])
    assert (tool["name"], tool["input_schema"]) == ("final_output", CITY.parameters)
    assert body["tool_choice"] == {"type": "tool", "name": "final_output"}
    last = body_of(provider, output=CITY, output_mode=mode, tools=(WEATHER,), may_call_tools=False)
    assert last["tool_choice"] == body["tool_choice"]


def test_an_output_by_tool_among_others_is_described(provider: Provider) -> None:
    body = body_of(provider, output=CITY, tools=(WEATHER,))
    assert "tool_choice" not in body
    assert "instead of answering in text" in body["tools"][1]["description"]


def test_an_output_by_schema(provider: Provider) -> None:
    body = body_of(provider, output=CITY, output_mode="native")
    assert body["output_config"] == {"format": {"type": "json_schema", "schema": CITY.parameters}}
    assert "tools" not in body


def test_tools_that_may_not_be_called_are_still_shown(provider: Provider) -> None:
    body = body_of(provider, tools=(WEATHER,), may_call_tools=False)
    assert (only(body["tools"])["name"], body["tool_choice"]) == ("weather", {"type": "none"})


def test_a_conversation_with_calls_has_tools_defined(provider: Provider) -> None:
    body = body_of(provider, user_message("x"), ASKED, tool_message(CALL, "cold"))
    assert (only(body["tools"])["name"], body["tool_choice"]) == ("no_tool", {"type": "none"})


@pytest.mark.parametrize(
    ("model", "version"),
    [
        ("claude-3-7-sonnet-20250219", (3, 7)),
        ("claude-sonnet-4-20250514", (4, 0)),
        ("claude-haiku-4-5-20251001", (4, 5)),
        ("claude-opus-4-6", (4, 6)),
        ("claude-opus-5", (5, 0)),
        ("claude-fable-5-1", (5, 1)),
        ("claude-sonnet-4.5", (4, 5)),
        ("claude-mythos-preview", (0, 0)),
        ("my-model-9", (0, 0)),
    ],
)
def test_versions_are_read_from_names(model: str, version: tuple[int, int]) -> None:
    assert version_of(model) == version


@pytest.mark.parametrize(
    ("effort", "limit", "budget", "max_tokens"),
    [
        ("low", None, 1024, 9216),
        ("medium", None, 4096, 12288),
        ("high", None, 16384, 24576),
        ("high", 8000, 4000, 8000),
        ("high", 1500, None, 1500),
        ("none", None, None, 8192),
    ],
)
def test_effort_is_a_budget_for_models_up_to_4_5(
    provider: Provider, effort: str, limit: int | None, budget: int | None, max_tokens: int
) -> None:
    body = body_of(
        provider, model="claude-sonnet-4-5", reasoning_effort=effort, max_output_tokens=limit, temperature=0.3
    )
    thinking = {"type": "enabled", "budget_tokens": budget} if budget else None
    assert (body.get("thinking"), body["max_tokens"]) == (thinking, max_tokens)
    assert ("temperature" in body) is (budget is None)


def test_effort_is_adaptive_for_later_models(provider: Provider) -> None:
    body = body_of(provider, model="claude-opus-4-8", reasoning_effort="minimal", temperature=0.3, top_p=0.5)
    assert body["thinking"] == {"type": "adaptive"}
    assert body["output_config"] == {"effort": "low"}
    assert body.keys().isdisjoint({"temperature", "top_p"})
    assert "temperature" not in body_of(provider, model="claude-opus-5", temperature=0.3)
    assert "temperature" in body_of(provider, model="claude-opus-4-6", temperature=0.3)


@pytest.mark.parametrize("options", [{}, {"tools": (WEATHER,), "may_call_tools": False}])
@pytest.mark.parametrize("model", ["claude-fable-5-1", "claude-opus-5-5"])
def test_models_that_can_not_be_forced_are_left_one_tool(
    provider: Provider, model: str, options: dict[str, Any]
) -> None:
    body = body_of(provider, model=model, output=CITY, reasoning_effort="low", cache_key="k", **options)
    assert only(body["tools"])["name"] == "final_output"
    assert "instead of answering in text" in body["tools"][0]["description"]
    assert "tool_choice" not in body
    assert body["thinking"] == {"type": "adaptive"}


@pytest.mark.parametrize("model", ["claude-sonnet-4-5", "claude-opus-5"])
def test_a_forced_tool_excludes_thinking(provider: Provider, model: str) -> None:
    body = body_of(provider, model=model, output=CITY, reasoning_effort="high")
    assert "thinking" not in body
    assert body["tool_choice"]["type"] == "tool"


def test_thinking_does_not_begin_within_a_turn(provider: Provider) -> None:
    talk = [user_message("x"), ASKED, tool_message(CALL, "cold")]
    options: dict[str, Any] = {"model": "claude-sonnet-4-5", "reasoning_effort": "low", "tools": (WEATHER,)}
    assert "thinking" not in body_of(provider, *talk, **options)
    assert "thinking" in body_of(provider, *talk, user_message("and now?"), **options)
    # Where the model decides, it may have thought nothing of the first step.
    assert "thinking" in body_of(provider, *talk, **{**options, "model": "claude-opus-5"})
    block: Any = {"type": "thinking", "thinking": "Hm", "signature": "s"}
    thought = Message(role="assistant", parts=(ReasoningPart(vendor={"anthropic": block}), CALL))
    assert "thinking" in body_of(provider, user_message("x"), thought, tool_message(CALL, "cold"), **options)
