"""Which calls are answered by the result of another, and what a successor is told of it."""

from datetime import timedelta

import pytest

from perdure import tool
from perdure.agents.tool import Tool
from perdure.contracts.messages import Message, TextPart, ToolCallPart, ToolResultPart, tool_message, user_message
from perdure.workflows._conversation import Conversation
from perdure.workflows._known import KnownResults, call_digest


def make(description: str = "Look.", **options: str) -> Tool:
    @tool(name="look", description=description, idempotent=True, cache="run", **options)  # pyright: ignore
    def look(number: int, text: str = "") -> str:
        return f"{number} {text}"

    return look


def test_order_and_space_of_arguments_do_not_count() -> None:
    spec = make().spec
    digest = call_digest(spec, '{"number": 1, "text": "a"}')
    assert digest == call_digest(spec, '{"text":"a","number":1}')
    assert digest != call_digest(spec, '{"number": 2, "text": "a"}')


@pytest.mark.parametrize("arguments", ["{", "[" * 100_000, "nope"])
def test_what_is_no_json_is_no_call_to_share(arguments: str) -> None:
    assert call_digest(make().spec, arguments) == ""


def test_a_changed_tool_is_another() -> None:
    digests = {call_digest(each.spec, "{}") for each in (make(), make("Look well."), make(version="2"))}
    assert len(digests) == 3


def test_the_first_of_a_turn_answers_the_rest() -> None:
    known = KnownResults()
    assert known.sources([(5, "a"), (6, ""), (7, "a"), (8, "b"), (9, ""), (10, "a")]) == {7: 5, 10: 5}
    known.add("a", 5)
    assert known.sources([(12, "a"), (13, "b"), (14, "b")]) == {12: 5, 14: 13}


def test_what_is_carried_is_bounded_and_the_latest() -> None:
    known = KnownResults()
    for number in range(1200):
        known.add(f"d{number}", number)
    again = KnownResults(known.latest())
    assert len(again.latest()) == 1000
    assert again.sources([(2000, "d199"), (2001, "d200")]) == {2001: 200}


def test_a_repeated_result_is_recorded_as_a_reference() -> None:
    conversation = Conversation()
    call = ToolCallPart(id="2", name="look", arguments="{}")
    conversation.append(user_message("go"), is_recorded=True)
    conversation.append(tool_message(ToolCallPart(id="1", name="look"), "x" * 10_000), is_recorded=True)
    slot = conversation.reserve(1)
    conversation.fill_like(slot, call, 1)
    filled = conversation.message(slot).parts[0]
    assert isinstance(filled, ToolResultPart)
    assert (filled.call_id, filled.content) == ("2", (TextPart(text="x" * 10_000),))
    (new,) = conversation.take_new()
    assert new.same_as == 1
    assert len(new.to_bytes()) < 300
    assert isinstance(new.message, Message)


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({"cache": "shared"}, "ttl"),
        ({"cache": "shared", "ttl": timedelta(0)}, "ttl"),
        ({"cache": "run", "ttl": timedelta(hours=1)}, "ttl is for"),
        ({"cache": "shared", "ttl": timedelta(hours=1), "local": True}, "can't be shared"),
        ({"cache": "run", "idempotent": False}, "needs idempotent"),
    ],
)
def test_options_that_do_not_fit(options: dict[str, object], fault: str) -> None:
    with pytest.raises(Exception, match=fault):
        tool(**{"name": "look", "idempotent": True, **options})(lambda: "")  # pyright: ignore
