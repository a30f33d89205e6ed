"""Making room: what stays, what is cut, what is summarised. Calls keep their results whatever is done."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure import Agent, Compaction
from perdure.activities._compacting import (
    as_parts,
    find_fault,
    plan_dropping,
    plan_summary,
    summary_message,
    summary_prompt,
)
from perdure.activities.compacting import CompactActivities
from perdure.contracts.calls import CompactRequest, CompactResult, SlotMessage
from perdure.contracts.compaction import CompactedPart, CompactionStep, Room, compacted, estimate_tokens
from perdure.contracts.messages import Message, TextPart, ToolCallPart, tool_message, user_message
from perdure.errors import UserError
from perdure.testing import ScriptedModel
from tests.activities.rig import Rig, redact

RATE = 0.25


def turn(number: int, *sizes: int) -> list[Message]:
    """Return a turn with a call for each size."""
    parts = tuple(ToolCallPart(id=f"{number}.{n}", name="look", arguments="{}") for n in range(len(sizes)))
    reply = Message(role="assistant", parts=(TextPart(text=f"turn {number}"), *parts))
    return [reply, *(tool_message(part, "x" * size) for part, size in zip(parts, sizes, strict=True))]


def conversation(*turns: Sequence[int], task: str = "the task") -> list[Message]:
    return [user_message(task), *(each for n, sizes in enumerate(turns) for each in turn(n, *sizes))]


def tokens(messages: Sequence[Message]) -> int:
    return sum(estimate_tokens(each, RATE) for each in messages)


def room(target: int) -> Room:
    return Room(target_tokens=target, tokens_per_byte=RATE)


def cut_counts(messages: Sequence[Message]) -> list[int]:
    return [n for n, each in enumerate(messages) if "cut by perdure" in each.model_dump_json()]


def test_the_oldest_results_are_dropped_first() -> None:
    messages = conversation(*[[4000]] * 10)
    after = compacted(messages, plan_dropping(messages, room(7000), 4))
    assert cut_counts(after) == [2, 4, 6, 8]
    assert tokens(after) <= 7000
    assert after[9:] == messages[9:]


def test_results_of_the_last_turns_stay() -> None:
    messages = conversation(*[[4000]] * 10)
    after = compacted(messages, plan_dropping(messages, room(1500), 4))
    assert cut_counts(after) == [2, 4, 6, 8, 10, 12]


def test_a_last_turn_that_is_too_long_is_cut() -> None:
    messages = conversation([100], [5_000_000])
    after = compacted(messages, plan_dropping(messages, room(5000), 4))
    assert tokens(after) <= 5000
    assert "16384 of 5000000 bytes kept" in after[-1].model_dump_json()


def test_where_nothing_can_be_dropped_nothing_is_done() -> None:
    messages = conversation([10], [10], [10], [10], [10], [10])
    assert plan_dropping(messages, room(100), 2) == ()


def test_a_summary_leaves_task_and_last_turns() -> None:
    messages = conversation(*[[400]] * 10)
    plan = plan_summary(messages, room(2000), 4, 10_000)
    assert plan is not None
    before, older, after = plan
    summary = CompactedPart(message=summary_message("so far", len(older)))
    made = compacted(messages, (*before, summary, *after))
    assert made[0] == messages[0]
    assert made[1].text.endswith("so far")
    assert made[2:] == messages[13:]
    assert list(older) == messages[1:13]


def test_a_task_that_is_long_is_summarised_too() -> None:
    messages = conversation(*[[400]] * 10, task="x" * 8000)
    plan = plan_summary(messages, room(2000), 4, 10_000)
    assert plan is not None
    assert plan[0] == ()
    assert plan[1][0] == messages[0]


def test_what_a_summariser_cannot_read_at_once_is_left_for_the_next() -> None:
    messages = conversation(*[[400]] * 20)
    plan = plan_summary(messages, room(2000), 4, 1000)
    assert plan is not None
    assert tokens(plan[1]) <= 1000
    assert len(plan[1]) + 1 + sum(part.stop - part.start for part in plan[2]) == len(messages)
    assert estimate_tokens(summary_prompt(plan[1], room(2000), 1000), RATE) <= 1100


def test_one_message_that_is_too_long_is_shown_in_part() -> None:
    messages = conversation([100_000], [10], [10], [10], [10], [10])
    plan = plan_summary(messages, room(2000), 4, 1000)
    assert plan is not None
    prompt = summary_prompt(plan[1], room(2000), 1000)
    assert "characters left out" in prompt.text
    assert estimate_tokens(prompt, RATE) <= 1200


def test_nothing_to_summarise() -> None:
    assert plan_summary(conversation([10]), room(2000), 4, 1000) is None
    assert plan_summary([user_message("x" * 100_000)], room(2000), 4, 1000) is None


TURNS = st.lists(st.lists(st.integers(0, 30_000), max_size=3), max_size=12)


@given(TURNS, st.integers(200, 20_000), st.integers(1, 6), st.integers(1000, 20_000))
def test_no_call_is_parted_from_its_result(turns: list[list[int]], target: int, keep: int, prompt: int) -> None:
    messages = [*conversation(*turns), user_message("go on")]
    for step in ("drop", "summary"):
        if step == "drop":
            parts = plan_dropping(messages, room(target), keep)
        else:
            plan = plan_summary(messages, room(target), keep, prompt)
            if plan is None:
                continue
            parts = (*plan[0], CompactedPart(message=summary_message("s", 1)), *plan[2])
        if parts:
            after = compacted(messages, parts)
            assert find_fault(after) == ""
            assert after[-1] == messages[-1]
            messages = after


@pytest.mark.parametrize(
    ("messages", "fault"),
    [
        ([], "no messages"),
        (turn(1, 5), "begins with"),
        ([user_message("x"), *turn(1, 5)[1:]], "is not there"),
        ([user_message("x"), turn(1, 5)[0], user_message("y")], "before the result"),
        ([user_message("x"), *turn(1)], "ends with"),
        ([user_message("x"), *turn(1, 5, 5)[:2]], "has no result"),
    ],
)
def test_conversations_that_no_vendor_takes(messages: list[Message], fault: str) -> None:
    assert fault in find_fault(messages)


def test_messages_that_were_there_are_referred_to() -> None:
    messages = conversation([10], [10], [10])
    new = user_message("in short")
    parts = as_parts(messages, [messages[0], new, *messages[3:]])
    assert parts == (
        CompactedPart(start=0, stop=1),
        CompactedPart(message=new),
        CompactedPart(start=3, stop=7),
    )


async def forget(messages: list[Message], target_tokens: int) -> list[Message]:
    assert target_tokens == 100
    return [messages[0], *messages[-2:]]


def as_it_is(messages: list[Message], target_tokens: int) -> list[Message]:
    return messages


def fails(messages: list[Message], target_tokens: int) -> list[Message]:
    raise ValueError("hunter2-hunter2")


def parts_them(messages: list[Message], target_tokens: int) -> list[Message]:
    return [messages[0], messages[-1]]


def text(messages: list[Message], target_tokens: int) -> str:
    return "a text"


def swells(messages: list[Message], target_tokens: int) -> list[Message]:
    return [*messages, user_message("x" * 2_000_000)]


async def run(folder: Path, function: Any, step: CompactionStep | None = None) -> CompactResult:
    agent = Agent("worker", model="scripted:x", compaction=Compaction(by=function))
    rig = Rig(folder, [agent], [ScriptedModel(["x"])])
    activities = CompactActivities(
        registry=rig.lookup._registry,
        lookup=rig.lookup,
        redact=redact,
    )
    spec = await rig.pin()
    messages = conversation([2000], [2000], [2000], [2000], [2000], [2000])
    assert spec.compaction is not None
    request = CompactRequest(
        spec=spec.digest,
        slots=len(messages),
        step=step or spec.compaction.steps[0],
        room=room(100),
        new=tuple(SlotMessage(slot=n, message=each) for n, each in enumerate(messages)),
    )
    return await rig.environment().run(activities.compact, request)


async def test_results_are_dropped_in_the_activity(tmp_path: Path) -> None:
    result = await run(tmp_path, "drop_tool_results")
    assert result.compacted[0] == CompactedPart(start=0, stop=5, cut_bytes=0)


async def test_a_function_of_the_user(tmp_path: Path) -> None:
    result = await run(tmp_path, forget)
    assert result.compacted == (CompactedPart(start=0, stop=1), CompactedPart(start=11, stop=13))
    assert await run(tmp_path, as_it_is) == CompactResult()


@pytest.mark.parametrize(
    ("function", "problem"),
    [(fails, r"'fails'.*\*\*\*"), (parts_them, "is not there"), (text, "a str"), (swells, "2000051 bytes")],
)
async def test_what_a_function_may_not_do(tmp_path: Path, function: Any, problem: str) -> None:
    with pytest.raises(UserError, match=problem):
        await run(tmp_path, function)


async def test_a_function_that_is_gone(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no longer has the function 'other'"):
        await run(tmp_path, forget, CompactionStep(action="function", function="other"))
