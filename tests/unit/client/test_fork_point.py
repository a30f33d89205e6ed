"""Where a run is forked, as a table: what is kept of conversations of every kind."""

from datetime import UTC, datetime
from typing import Any

import pytest

from perdure.client._diff import common, common_turns, parting
from perdure.client._fork_point import ForkPoint, ForkRequest, fork_point
from perdure.client._turns import Chain
from perdure.contracts.calls import CallModelRequest, CallModelResult
from perdure.contracts.compaction import CompactedPart
from perdure.contracts.messages import Message, ReasoningPart, TextPart, ToolCallPart, tool_message, user_message
from perdure.contracts.run import Carried, RunInput
from perdure.contracts.usage import NO_USAGE
from perdure.errors import InvalidInputError
from perdure.history import RecordedRun

LOOK, BOOK = ToolCallPart(id="1", name="look"), ToolCallPart(id="2", name="book")


def reply(*parts: Any) -> Message:
    return Message(role="assistant", parts=tuple(TextPart(text=p) if isinstance(p, str) else p for p in parts))


def note(text: str) -> Message:
    return user_message(text, author="perdure")


def chain(*messages: Message | None, final: int | None = None, problem: int | None = None) -> Chain:
    """Return a run with a conversation; None is a slot that isn't there."""
    run = RecordedRun()
    for slot, message in enumerate(messages):
        if message is not None:
            run.put("main", 0, slot, message)
    if final is not None:
        run.asked[("main", 0, final)] = CallModelRequest(spec="s", slots=final, is_final=True)
    if problem is not None:
        bad = CallModelResult(message=reply("x"), usage=NO_USAGE, problem="no JSON")
        run.model_results[("main", 0, problem)] = bad
    return Chain("w", [("r", run)])


def point(conversation: Chain, turn: int | None = None, **given: Any) -> ForkPoint:
    return fork_point(conversation, ForkRequest(workflow_id="w", turn=turn, **given))


HI, MORE, DONE = user_message("hi"), user_message("more"), reply("done")
BOTH = reply(LOOK, BOOK)
SEEN, BOOKED = tool_message(LOOK, "seen"), tool_message(BOOK, "booked")
CHAT = chain(HI, reply("hello"), MORE, DONE)
WORK = chain(HI, BOTH, SEEN, BOOKED, note("again?"), MORE, DONE)


@pytest.mark.parametrize(("turn", "end"), [(0, 1), (1, 3)])
def test_what_users_said_next_is_kept(turn: int, end: int) -> None:
    found = point(CHAT, turn)
    assert (found.turn.number, found.end, found.given) == (turn, end, ())


@pytest.mark.parametrize(("turn", "end"), [(0, 0), (1, 2), (2, 4)])
def test_a_message_stands_in_place_of_that(turn: int, end: int) -> None:
    found = point(CHAT, turn, message="other")
    assert (found.end, found.slots) == (end, end + 1)
    assert found.given[0].message == user_message("other")


def test_what_perdure_said_is_kept() -> None:
    assert point(WORK, 1).end == 6
    assert point(WORK, 1, message="x").end == 5
    assert point(chain(HI, reply("bad"), note("JSON!"), DONE), 1).end == 3


def test_what_a_limit_made_it_say_is_not() -> None:
    limited = chain(HI, BOTH, SEEN, BOOKED, note("The limit is reached."), DONE, final=5)
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
    twice = chain(HI, reply(LOOK, ToolCallPart(id="3", name="look")), SEEN, SEEN)
    with pytest.raises(InvalidInputError, match=r"Its calls: 1 \(look\), 3 \(look\)\."):
        point(twice, 1, tool_results={name: "x"})


def test_a_turn_that_was_cut_off() -> None:
    cut_off = chain(HI, BOTH, None, BOOKED)
    with pytest.raises(InvalidInputError, match=r"has no result of 1 \(look\): fork at turn 0, or give it"):
        point(cut_off, 1)
    assert point(cut_off).turn.number == 0
    found = point(cut_off, tool_results={"look": "by hand"}, message="go on")
    assert [(each.slot, each.message.role) for each in found.given] == [(2, "tool"), (3, "tool"), (4, "user")]
    assert (found.turn.number, found.end, found.slots) == (1, 4, 5)
    assert found.given[1].message == BOOKED, "what is recorded behind the gap is kept"


def test_an_answer_needs_a_message() -> None:
    with pytest.raises(InvalidInputError, match="is the answer"):
        point(CHAT, 2)
    assert (point(CHAT).turn.number, point(CHAT, message="x").turn.number) == (1, 2)


def test_a_structured_answer_is_closed_before_the_message() -> None:
    output = reply(ToolCallPart(id="9", name="final_output", arguments="{}"))
    found = point(chain(HI, output), 1, message="x")
    assert [each.message.role for each in found.given] == ["tool", "user"]
    assert (found.end, found.slots) == (2, 4)
    assert point(chain(HI, output, tool_message(output.tool_calls[0], "no"), DONE), 1).given == ()


def test_a_reply_that_could_not_be_used() -> None:
    with pytest.raises(InvalidInputError, match="could not be used: fork at turn 0"):
        point(chain(HI, reply("bad"), problem=1), 1, message="x")


def test_turns_that_are_not_there() -> None:
    with pytest.raises(InvalidInputError, match="has 2 turns: it can't be forked at turn 3"):
        point(CHAT, 3)
    with pytest.raises(InvalidInputError, match="not begun"):
        point(chain(), 0)


def test_a_conversation_in_which_room_was_made() -> None:
    """What was left out is counted, and can be forked as it was then."""
    run = RecordedRun()
    for slot, message in enumerate((HI, BOTH, SEEN, BOOKED, reply(LOOK), SEEN)):
        run.put("main", 0, slot, message)
    run.compact("main", 0, (CompactedPart(message=note("summary")), CompactedPart(start=4, stop=6)))
    run.put("main", 1, 3, DONE)
    found = Chain("w", [("r", run)])
    assert found.count == 3
    assert [(t.epoch, t.slot, t.end) for t in map(found.turn, range(4))] == [
        (0, -1, 1),
        (0, 1, 4),
        (0, 4, 6),
        (1, 3, 4),
    ]
    assert point(found).turn.number == 2
    assert point(found, message="x").end == 4


def test_the_latest_run_that_has_all_of_it() -> None:
    """A run that continued as new has copied the conversation; one that is about to has not."""
    first, second = RecordedRun(), RecordedRun()
    for slot, message in enumerate((HI, BOTH, SEEN, BOOKED)):
        first.put("main", 0, slot, message)
    carried = Carried(from_run_id="a", spec="s", conversation_slots=4, started_at=datetime.now(UTC))
    second.request = RunInput(agent="x", carried=carried)
    assert Chain("w", [("a", first), ("b", second)]).turn(1).run_id == "a"
    for slot, message in first.conversation().items():
        second.put("main", 0, slot, message)
        second.copied.add(("main", 0, slot))
    second.put("main", 0, 4, DONE)
    both = Chain("w", [("a", first), ("b", second)])
    assert (both.count, both.turn(1).run_id, both.turn(1).end, both.holders(1)) == (2, "b", 4, [1, 0])
    alone = Chain("w", [("b", second)])
    assert (alone.count, alone.turn(2).slot) == (2, 4)


def test_what_is_the_same_says_the_same() -> None:
    one = [HI, reply(ReasoningPart(text="hm"), ToolCallPart(id="a", name="look", arguments='{"x":1}'))]
    other = [HI, reply(ToolCallPart(id="b", name="look", arguments='{ "x": 1 }'))]
    assert common(one, other) == 2
    assert parting(one, other, 2) is None
    assert common(one, [HI, reply(ToolCallPart(id="b", name="look", arguments="{"))]) == 1


_CHAT, _WORK = [HI, reply("hello"), MORE, DONE], [HI, BOTH, SEEN, BOOKED, note("again?"), MORE, DONE]


@pytest.mark.parametrize(
    ("a", "b", "turn", "where", "lengths"),
    [
        (_CHAT, [MORE, DONE], 0, "message", (1, 1)),
        (_CHAT, [HI, DONE], 1, "reply", (2, 1)),
        (_CHAT, [HI, reply("hello"), user_message("other"), DONE], 1, "message", (1, 1)),
        (_CHAT, [HI, reply("hello")], 1, "message", (1, 0)),
        (_WORK, [HI, BOTH, SEEN, SEEN, DONE], 1, "result", (3, 1)),
    ],
)
def test_where_they_part(a: list[Message], b: list[Message], turn: int, where: str, lengths: Any) -> None:
    place = common(a, b)
    found = parting(a, b, place)
    assert found is not None
    assert (found.turn, found.where, (len(found.a), len(found.b))) == (turn, where, lengths)
    assert common_turns(a, place) <= turn
