"""What is sent in the Chat Completions format; each body is checked against OpenAI's own types."""

import json
from typing import Any

import pytest

from perdure.contracts.messages import (
    FilePart,
    ImagePart,
    Message,
    ReasoningPart,
    TextPart,
    ToolCallPart,
    ToolResultPart,
    tool_message,
    user_message,
)
from perdure.contracts.spec import OutputSpec
from perdure.providers._strict import is_strict
from perdure.providers.base import Provider
from tests.activities.providers.conftest import MakeProvider
from tests.activities.providers.helpers import BLOB, CITY, WEATHER, body_of, only, read_blob, request_of

CALL = ToolCallPart(id="call_1", name="weather", arguments='{"city": "Oslo"}')
ASKED = Message(role="assistant", parts=(CALL,))
PICTURE = ImagePart(media_type="image/png", blob=BLOB)


@pytest.fixture
def provider(make_provider: MakeProvider) -> Provider:
    return make_provider("openai", "http://127.0.0.1:1")


def test_the_least_request(provider: Provider) -> None:
    assert body_of(provider) == {
        "model": "model-1",
        "stream": True,
        "stream_options": {"include_usage": True},
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}],
    }
    assert body_of(provider, instructions="", stream=False).keys() == {"model", "messages"}


def test_settings_have_their_fields(provider: Provider) -> None:
    settings: dict[str, Any] = {"temperature": 0.5, "top_p": 0.9, "seed": 7, "stop": ("END",)}
    body = body_of(
        provider,
        **settings,
        reasoning_effort="low",
        parallel_tool_calls=False,
        max_output_tokens=100,
        tools=(WEATHER,),
        extra={"user": "u", "temperature": 1, "messages": "never"},
    )
    expected = {"temperature": 1, "top_p": 0.9, "seed": 7, "stop": ["END"], "reasoning_effort": "low"}
    assert body.items() >= {"parallel_tool_calls": False, "max_tokens": 100, "user": "u", **expected}.items()
    assert len(body["messages"]) == 2


def test_parallel_tool_calls_need_tools(provider: Provider) -> None:
    assert "parallel_tool_calls" not in body_of(provider, parallel_tool_calls=False)


@pytest.mark.parametrize(
    ("url", "options", "field"),
    [
        ("https://api.openai.com/v1", {}, "max_completion_tokens"),
        ("https://me.openai.azure.com/openai/v1", {}, "max_completion_tokens"),
        ("http://localhost:11434/v1", {}, "max_tokens"),
        ("http://localhost:11434/v1", {"max_tokens_field": "max_completion_tokens"}, "max_completion_tokens"),
    ],
)
def test_the_limit_has_the_name_that_the_server_knows(
    make_provider: MakeProvider, url: str, options: dict[str, str], field: str
) -> None:
    body = body_of(make_provider("openai", url, **options), max_output_tokens=9)
    assert {name: value for name, value in body.items() if name.startswith("max_")} == {field: 9}


def test_the_smaller_limit_holds(provider: Provider) -> None:
    request = request_of(provider, max_output_tokens=50)
    assert json.loads(b"".join(provider.body(request)))["max_tokens"] == 50  # pyright: ignore


def test_tools(provider: Provider) -> None:
    function = only(body_of(provider, tools=(WEATHER,))["tools"])["function"]
    assert function == {"name": "weather", "description": WEATHER.description, "parameters": WEATHER.parameters}


def test_tools_that_may_not_be_called_are_still_shown(provider: Provider) -> None:
    body = body_of(provider, tools=(WEATHER,), may_call_tools=False)
    assert (len(body["tools"]), body["tool_choice"]) == (1, "none")


@pytest.mark.parametrize("mode", ["auto", "native"])
def test_an_output_by_schema(provider: Provider, mode: str) -> None:
    body = body_of(provider, output=CITY, output_mode=mode)
    schema = {"name": "City", "schema": CITY.parameters, "strict": True}
    assert body["response_format"] == {"type": "json_schema", "json_schema": schema}
    assert "tools" not in body


def test_an_output_name_that_openai_refuses_is_changed(provider: Provider) -> None:
    output = OutputSpec(name="list[City]", parameters={"type": "object"})
    schema = body_of(provider, output=output)["response_format"]["json_schema"]
    assert schema["name"].startswith("list_City_")
    assert schema["strict"] is False


def test_an_output_by_tool_is_forced_where_nothing_else_can_be_called(provider: Provider) -> None:
    body = body_of(provider, output=CITY, output_mode="tool")
    assert only(body["tools"])["function"]["name"] == "final_output"
    assert body["tool_choice"] == {"type": "function", "function": {"name": "final_output"}}
    last = body_of(provider, output=CITY, output_mode="tool", tools=(WEATHER,), may_call_tools=False)
    assert last["tool_choice"] == body["tool_choice"]


def test_an_output_by_tool_among_others_is_free(provider: Provider) -> None:
    body = body_of(provider, output=CITY, output_mode="tool", tools=(WEATHER,))
    assert [tool["function"]["name"] for tool in body["tools"]] == ["weather", "final_output"]
    assert "tool_choice" not in body


def test_a_provider_may_prefer_the_tool(make_provider: MakeProvider) -> None:
    body = body_of(make_provider("openai", "http://127.0.0.1:1", auto_output="tool"), output=CITY)
    assert "response_format" not in body


def test_what_rarely_changes_is_kept_encoded(provider: Provider) -> None:
    first = body_of(provider, tools=(WEATHER,), cache_key="k")
    assert body_of(provider, tools=(WEATHER,), cache_key="k") == first
    other = body_of(provider, instructions="Other.", tools=(WEATHER,), cache_key="k2")
    assert other["messages"][0]["content"] == "Other."
    assert "tools" not in body_of(provider, cache_key="k")


def test_user_content(provider: Provider) -> None:
    parts = (
        TextPart(text="See"),
        PICTURE,
        ImagePart(url="https://x/y.png"),
        FilePart(media_type="application/pdf", blob=BLOB, name="a.pdf"),
        FilePart(url="https://x/y.pdf", name="y"),
    )
    content = body_of(provider, Message(role="user", parts=parts))["messages"][1]["content"]
    assert content == [
        {"type": "text", "text": "See"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,YWJj"}},
        {"type": "image_url", "image_url": {"url": "https://x/y.png"}},
        {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,YWJj"}},
        {"type": "text", "text": "File y: https://x/y.pdf"},
    ]


def test_tool_calls_and_results(provider: Provider) -> None:
    messages = body_of(provider, user_message("Hi"), ASKED, tool_message(CALL, "cold"))["messages"]
    assert messages[2] == {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}}
        ],
    }
    assert messages[3] == {"role": "tool", "tool_call_id": "call_1", "content": "cold"}


@pytest.mark.parametrize("broken", ['{"city": ', "[1]", "", "null", "NaN", "[" * 5000])
def test_broken_arguments_are_sent_as_an_empty_object(provider: Provider, broken: str) -> None:
    asked = Message(role="assistant", parts=(ToolCallPart(id="c", name="weather", arguments=broken),))
    call = only(body_of(provider, asked)["messages"][1]["tool_calls"])
    assert call["function"]["arguments"] == "{}"


def test_pictures_in_results_follow_after_all_results(provider: Provider) -> None:
    second = ToolCallPart(id="call_2", name="weather")
    messages = body_of(
        provider,
        user_message("Hi"),
        Message(role="assistant", parts=(CALL, second)),
        tool_message(CALL, (TextPart(text="a map"), PICTURE)),
        user_message("hurry up"),
        tool_message(second, "warm"),
    )["messages"]
    assert [message["role"] for message in messages[3:]] == ["tool", "tool", "user", "user"]
    assert messages[3]["content"].startswith("a map\n(The image content")
    assert messages[5]["content"][0]["type"] == "image_url"
    assert messages[6]["content"] == "hurry up"


@pytest.mark.parametrize("outcome", ["ok", "error", "unknown", "denied"])
def test_an_empty_result_says_something(provider: Provider, outcome: Any) -> None:
    message = tool_message(CALL, "", outcome=outcome)
    assert body_of(provider, ASKED, message)["messages"][2]["content"]


def test_ids_and_names_that_vendors_refuse_match_after_the_change(provider: Provider) -> None:
    call = ToolCallPart(id="functions.weather:0" + "x" * 60, name="wéather now")
    _, asked, answered = body_of(provider, Message(role="assistant", parts=(call,)), tool_message(call, "x"))[
        "messages"
    ]
    sent = only(asked["tool_calls"])
    assert sent["id"] == answered["tool_call_id"]
    assert len(sent["id"]) == 40
    assert sent["function"]["name"].startswith("w_ather_now_")


def test_reasoning_is_only_sent_where_it_is_wanted(provider: Provider) -> None:
    plain = Message(role="assistant", parts=(ReasoningPart(text="Hm"), TextPart(text="x")))
    assert provider.encode(plain, read_blob).body == b'{"role":"assistant","content":"x"}'
    wanted = ReasoningPart(text="Hm", vendor={"openai": {"reasoning_field": "reasoning_content"}})
    sent = json.loads(provider.encode(Message(role="assistant", parts=(wanted,)), read_blob).body)
    assert sent == {"role": "assistant", "content": "", "reasoning_content": "Hm"}


def test_what_came_with_a_call_goes_back_with_it(provider: Provider) -> None:
    vendor: Any = {"openai": {"call_extras": {"call_1": {"extra_content": {"google": {"s": "x"}}}}}}
    fragment = provider.encode(Message(role="assistant", parts=(CALL,), vendor=vendor), read_blob)
    assert only(json.loads(fragment.body)["tool_calls"])["extra_content"] == {"google": {"s": "x"}}


def test_a_message_of_several_results(provider: Provider) -> None:
    results = tuple(ToolResultPart(call_id=f"c{n}", name="x", content=(TextPart(text=str(n)),)) for n in range(3))
    messages = body_of(provider, Message(role="tool", parts=results))["messages"]
    assert [message["tool_call_id"] for message in messages[1:]] == ["c0", "c1", "c2"]


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        (CITY.parameters, True),
        ({**CITY.parameters, "required": []}, False),
        ({**CITY.parameters, "additionalProperties": True}, False),
        ({"type": "array", "items": {"type": "string"}}, False),
        ({**CITY.parameters, "properties": {"name": {"type": "string", "minLength": 3}}}, False),
        ({**CITY.parameters, "properties": {"name": {"type": "string", "default": "x"}}}, False),
        ({**CITY.parameters, "properties": {"name": {"type": "string", "format": "uri"}}}, False),
        ({**CITY.parameters, "properties": {"name": {}}}, False),
        ({**CITY.parameters, "properties": {"name": {"type": "array", "items": {"type": "object"}}}}, False),
        (
            {**CITY.parameters, "properties": {"name": {"$ref": "#/$defs/N"}}, "$defs": {"N": CITY.parameters}},
            True,
        ),
        ({**CITY.parameters, "properties": {"name": {"anyOf": [{"type": "string"}, {"type": "null"}]}}}, True),
    ],
)
def test_strict_mode_is_asked_for_only_where_it_works(schema: dict[str, Any], expected: bool) -> None:
    assert is_strict(schema) is expected
