"""Where a run is forked, as a table: what is kept of conversations of every kind."""

from typing import Any

import pytest

from perdure.client._diff import common, common_turns, parting
from perdure.client._fork_point import ForkPoint, ForkRequest, fork_point
from perdure.client._turns import Turns
from perdure.contracts.calls import CallModelRequest, CallModelResult
from perdure.contracts.messages import Message, ReasoningPart, TextPart, ToolCallPart, tool_message, user_message
from perdure.contracts.usage import NO_USAGE
from perdure.errors import InvalidInputError
from perdure.history import RecordedRun

LOOK, BOOK = ToolCallPart(id="1", name="look"), ToolCallPart(id="2", name="book")


def reply(*parts: Any) -> Message:
    return Message(role="assistant", parts=tuple(TextPart(text=p) if isinstance(p, str) else p for p in parts))


def note(text: str) -> Message:
    return user_message(text, author="perdure")


def turns(*messages: Message | None, final: int | None = None, problem: int | None = None) -> Turns:
    """Return a conversation; None is a slot that isn't there."""
    run = RecordedRun()
    for slot, message in enumerate(messages):
        if message is not None:
            run.put("main", 0, slot, message)
    if final is not None:
        run.asked[("main", 0, final)] = CallModelRequest(spec="s", slots=final, is_final=True)
    if problem is not None:
        bad = CallModelResult(message=reply("x"), usage=NO_USAGE, problem="no JSON")
        run.model_results[("main", 0, problem)] = bad
    filled = list(messages[: messages.index(None)] if None in messages else messages)
    found = [n for n, message in enumerate(filled) if message is not None and message.role == "assistant"]
    return Turns("w", "r", run, 0, filled, found)  # pyright: ignore[reportArgumentType]


def point(conversation: Turns, turn: int | None = None, **given: Any) -> ForkPoint:
    return fork_point(conversation, ForkRequest(workflow_id="w", turn=turn, **given))


HI, MORE, DONE = user_message("hi"), user_message("more"), reply("done")
BOTH = reply(LOOK, BOOK)
SEEN, BOOKED = tool_message(LOOK, "seen"), tool_message(BOOK, "booked")
CHAT = turns(HI, reply("hello"), MORE, DONE)
WORK = turns(HI, BOTH, SEEN, BOOKED, note("again?"), MORE, DONE)


@pytest.mark.parametrize(("turn", "end"), [(0, 1), (1, 3)])
def test_what_users_said_next_is_kept(turn: int, end: int) -> None:
    assert point(CHAT, turn) == ForkPoint(turn, end, ())


@pytest.mark.parametrize(("turn", "end"), [(0, 0), (1, 2), (2, 4)])
def test_a_message_stands_in_place_of_that(turn: int, end: int) -> None:
    found = point(CHAT, turn, message="other")
    assert (found.end, found.slots) == (end, end + 1)
    assert found.given[0].message == user_message("other")


def test_what_perdure_said_is_kept() -> None:
    assert point(WORK, 1).end == 6
    assert point(WORK, 1, message="x").end == 5
    assert point(turns(HI, reply("bad"), note("JSON!"), DONE), 1).end == 3


def test_what_a_limit_made_it_say_is_not() -> None:
    limited = turns(HI, BOTH, SEEN, BOOKED, note("The limit is reached."), DONE, final=5)
    assert point(limited, 1).end == 4
    assert point(limited, 2, message="x").end == 6


def test_results_are_replaced() -> None:
    found = point(WORK, 1, tool_results={"look": "other", "2": "else"})
    assert [(each.slot, each.message) for each in found.given] == [
        (2, tool_message(LOOK, "other")),
        (3, tool_message(BOOK, "else")),
    ]
    assert (found.end, found.slots) == (6, 6)


@pytest.mark.parametrize("name", ["nope", "look"])
def test_calls_that_are_not_there(name: str) -> None:
    twice = turns(HI, reply(LOOK, ToolCallPart(id="3", name="look")), SEEN, SEEN)
    with pytest.raises(InvalidInputError, match=r"Its calls: 1 \(look\), 3 \(look\)\."):
        point(twice, 1, tool_results={name: "x"})


def test_a_turn_that_was_cut_off() -> None:
    cut_off = turns(HI, BOTH, None, BOOKED)
    with pytest.raises(InvalidInputError, match=r"has no result of 1 \(look\): fork at turn 0, or give it"):
        point(cut_off, 1)
    assert point(cut_off).turn == 0
    found = point(cut_off, tool_results={"look": "by hand"}, message="go on")
    assert [(each.slot, each.message.role) for each in found.given] == [(2, "tool"), (3, "tool"), (4, "user")]
    assert (found.turn, found.end, found.slots) == (1, 4, 5)
    assert found.given[1].message == BOOKED, "what is recorded behind the gap is kept"


def test_an_answer_needs_a_message() -> None:
    with pytest.raises(InvalidInputError, match="is the answer"):
        point(CHAT, 2)
    assert (point(CHAT).turn, point(CHAT, message="x").turn) == (1, 2)


def test_a_structured_answer_is_closed_before_the_message() -> None:
    output = reply(ToolCallPart(id="9", name="final_output", arguments="{}"))
    found = point(turns(HI, output), 1, message="x")
    assert [each.message.role for each in found.given] == ["tool", "user"]
    assert (found.end, found.slots) == (2, 4)
    assert point(turns(HI, output, tool_message(output.tool_calls[0], "no"), DONE), 1).given == ()


def test_a_reply_that_could_not_be_used() -> None:
    with pytest.raises(InvalidInputError, match="could not be used: fork at turn 0"):
        point(turns(HI, reply("bad"), problem=1), 1, message="x")


def test_turns_that_are_not_there() -> None:
    with pytest.raises(InvalidInputError, match="has 2 turns: it can't be forked at turn 3"):
        point(CHAT, 3)
    with pytest.raises(InvalidInputError, match="not begun"):
        point(turns(), 0)


def test_what_is_the_same_says_the_same() -> None:
    one = turns(HI, reply(ReasoningPart(text="hm"), ToolCallPart(id="a", name="look", arguments='{"x":1}')))
    other = turns(HI, reply(ToolCallPart(id="b", name="look", arguments='{ "x": 1 }')))
    assert common(one.messages, other.messages) == 2
    assert parting(one, other, 2) is None
    broken = turns(HI, reply(ToolCallPart(id="b", name="look", arguments="{")))
    assert common(one.messages, broken.messages) == 1


@pytest.mark.parametrize(
    ("a", "b", "turn", "where", "lengths"),
    [
        (CHAT, turns(MORE, DONE), 0, "message", (1, 1)),
        (CHAT, turns(HI, DONE), 1, "reply", (2, 1)),
        (CHAT, turns(HI, reply("hello"), user_message("other"), DONE), 1, "message", (1, 1)),
        (CHAT, turns(HI, reply("hello")), 1, "message", (1, 0)),
        (WORK, turns(HI, BOTH, SEEN, SEEN, DONE), 1, "result", (3, 1)),
    ],
)
def test_where_they_part(a: Turns, b: Turns, turn: int, where: str, lengths: tuple[int, int]) -> None:
    slot = common(a.messages, b.messages)
    found = parting(a, b, slot)
    assert found is not None
    assert (found.turn, found.where, (len(found.a), len(found.b))) == (turn, where, lengths)
    assert common_turns(a, slot) <= turn
