"""What the loop decides, as tables and as properties."""

import json
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.agents.outcomes import unknown_outcome
from perdure.contracts.answers import is_answer, output_text, output_value
from perdure.contracts.calls import CallModelRequest, CallModelResult, SlotMessage
from perdure.contracts.limits import Limits, ModelSettings
from perdure.contracts.messages import Message, Outcome, TextPart, ToolCallPart, ToolResultPart, tool_message
from perdure.contracts.run import Counters
from perdure.contracts.spec import AgentSpec, ModelSpec, OutputSpec, ToolSpec
from perdure.contracts.usage import Usage
from perdure.workflows._decisions import (
    after_model,
    after_tools,
    call_summary,
    is_ok,
    last_call,
    limit_reached,
    model_summary,
    objection,
    reask,
)
from tests.unit.contracts.strategies import contracts

OBJECT = {"type": "object"}
ADD = ToolSpec(name="add", parameters=OBJECT, idempotent=True)
PAY = ToolSpec(name="pay", parameters=OBJECT)
ASK_FIRST = ToolSpec(name="delete", parameters=OBJECT, needs_approval=True)
SPEC = AgentSpec(name="a", models=(ModelSpec(name="x:y"),), tools=(ADD, PAY, ASK_FIRST))
WRAPPED = SPEC.model_copy(update={"output": OutputSpec(name="list", parameters=OBJECT, is_wrapped=True)})
PLAIN = SPEC.model_copy(update={"output": OutputSpec(name="Report", parameters=OBJECT)})
USED = Counters(
    turns=3,
    model_calls=4,
    tool_calls=5,
    usage=Usage(input_tokens=60, output_tokens=40, cost_usd=Decimal("0.5")),
)


def call(name: str, arguments: str = "{}", id: str = "1") -> ToolCallPart:
    return ToolCallPart(id=id, name=name, arguments=arguments)


def reply(*parts: TextPart | ToolCallPart) -> Message:
    return Message(role="assistant", parts=parts)


def only_result(message: Message) -> tuple[str, Outcome, str]:
    (part,) = message.parts
    assert isinstance(part, ToolResultPart)
    return part.call_id, part.outcome, "".join(getattr(each, "text", "") for each in part.content)


@pytest.mark.parametrize(
    ("reached", "not_yet", "said"),
    [
        ({"max_turns": 3}, {"max_turns": 4}, "max_turns=3"),
        ({"max_model_calls": 4}, {"max_model_calls": 5}, "max_model_calls=4"),
        ({"max_tool_calls": 5}, {"max_tool_calls": 6}, "max_tool_calls=5"),
        ({"max_total_tokens": 100}, {"max_total_tokens": 101}, "max_total_tokens=100"),
        ({"max_cost_usd": Decimal("0.5")}, {"max_cost_usd": Decimal("0.51")}, "max_cost_usd=0.5"),
        ({"wall_clock": timedelta(seconds=60)}, {"wall_clock": timedelta(seconds=61)}, "wall_clock=0:01:00"),
    ],
)
def test_a_limit_is_reached_when_nothing_is_left(reached: Any, not_yet: Any, said: str) -> None:
    elapsed = timedelta(seconds=60)
    assert limit_reached(Limits(**reached), USED, elapsed) == said
    assert limit_reached(Limits(**not_yet), USED, elapsed) is None


@given(contracts(Limits))
def test_a_run_that_did_nothing_has_room(limits: Limits) -> None:
    assert limit_reached(limits, Counters(), timedelta(0)) is None


@given(contracts(Limits), contracts(Counters))
def test_no_limits_hold_nothing_up(limits: Limits, counters: Counters) -> None:
    assert limit_reached(Limits(), counters, timedelta(days=999)) is None
    others = Limits(max_depth=limits.max_depth, max_parallel_tool_calls=limits.max_parallel_tool_calls)
    assert limit_reached(others, counters, timedelta(days=999)) is None


def test_an_unknown_cost_reaches_any_limit_of_cost() -> None:
    unknown = Counters(usage=Usage(input_tokens=5))
    assert limit_reached(Limits(max_cost_usd=Decimal("0.01")), unknown, timedelta(0)) == "max_cost_usd=0.01"


@given(contracts(Counters), contracts(Usage), st.booleans())
def test_after_a_model_call(before: Counters, usage: Usage, is_usable: bool) -> None:
    message = Message(role="assistant")
    after = after_model(before, CallModelResult(message=message, usage=usage, problem="" if is_usable else "no"))
    assert (after.turns, after.model_calls) == (before.turns + 1, before.model_calls + 1)
    assert after.usage == before.usage + usage
    assert after.unusable == (0 if is_usable else before.unusable + 1)
    assert (after.tool_calls, after.failing_turns) == (before.tool_calls, before.failing_turns)


@given(
    contracts(Counters), st.lists(st.sampled_from(["ok", "error", "unknown", "denied"]), min_size=1, max_size=4)
)
def test_a_turn_fails_when_no_call_succeeds(before: Counters, outcomes: list[Outcome]) -> None:
    results = [tool_message(call("add"), "x", outcome=outcome) for outcome in outcomes]
    after = after_tools(before, results)
    assert after.failing_turns == (0 if "ok" in outcomes else before.failing_turns + 1)
    assert after.model_copy(update={"failing_turns": 0}) == before.model_copy(update={"failing_turns": 0})
    assert [is_ok(result) for result in results] == [outcome == "ok" for outcome in outcomes]


def test_calls_that_are_made() -> None:
    assert objection(SPEC, call("add")) is None
    assert objection(SPEC, call("pay")) is None


def test_a_call_of_an_unknown_tool_is_answered_with_a_hint() -> None:
    answer = objection(SPEC, call("ad", id="7"))
    assert answer is not None
    assert only_result(answer) == ("7", "error", "There is no tool 'ad'. Did you mean 'add'?")
    long = objection(SPEC, call("z" * 5000))
    assert long is not None
    assert len(only_result(long)[2]) < 200


def test_a_call_that_needs_a_person_is_denied() -> None:
    answer = objection(SPEC, call("delete"))
    assert answer is not None
    assert only_result(answer)[1] == "denied"


def test_a_text_that_is_no_answer_is_asked_for_again() -> None:
    (asked,) = reask(reply(TextPart(text="x")), "Write JSON.")
    assert (asked.role, asked.text, asked.author) == ("user", "Write JSON.", "perdure")


def test_every_call_of_a_reply_that_can_not_be_used_is_answered() -> None:
    message = reply(call("add", id="1"), call("final_output", id="2"), call("add", id="3"))
    answers = [only_result(each) for each in reask(message, "score: missing")]
    assert [(id, outcome) for id, outcome, _ in answers] == [("1", "error"), ("2", "error"), ("3", "error")]
    assert answers[1][2] == "score: missing"
    assert "Not run" in answers[0][2]


def test_the_last_call_names_the_limit() -> None:
    asked = last_call("max_turns=3")
    assert (asked.role, asked.author) == ("user", "perdure")
    assert "max_turns=3" in asked.text


@pytest.mark.parametrize(
    ("message", "text", "is_last"),
    [
        (reply(TextPart(text="hi")), "hi", True),
        (reply(), "", True),
        (reply(TextPart(text="wait"), call("add")), "wait", False),
        (reply(TextPart(text="so"), call("add"), call("final_output", '{"a": 1}')), '{"a": 1}', True),
    ],
)
def test_what_ends_a_conversation(message: Message, text: str, is_last: bool) -> None:
    assert output_text(message) == text
    assert is_answer(message) is is_last


@given(st.recursive(st.none() | st.integers() | st.text(), st.lists, max_leaves=4))
def test_an_answer_is_the_value_that_the_model_wrote(value: Any) -> None:
    text = json.dumps({"value": value})
    assert output_value(PLAIN, reply(TextPart(text=text))) == {"value": value}
    assert output_value(WRAPPED, reply(TextPart(text=text))) == value
    assert output_value(WRAPPED, reply(call("final_output", text))) == value
    assert output_value(SPEC, reply(TextPart(text=text))) == text


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        ('{"a": 1, "b": "x y"}', 'add(a=1, b="x y")'),
        ("", "add()"),
        ("{}", "add()"),
        ('{"a":', 'add({"a":)'),
        ("[1, 2]", "add([1, 2])"),
        ("3", "add(3)"),
        ('{"a": "two\\nlines"}', 'add(a="two\\nlines")'),
        ("not\n\n json", "add(not json)"),
    ],
)
def test_a_call_is_shown_as_people_write_it(arguments: str, shown: str) -> None:
    assert call_summary(call("add", arguments)) == shown


@given(st.text(max_size=300) | st.dictionaries(st.text(), st.text(max_size=200)).map(json.dumps))
def test_a_call_is_shown_on_one_short_line(arguments: str) -> None:
    shown = call_summary(call("add", arguments))
    assert shown.startswith("add(")
    assert len(shown) <= 100
    assert len(shown.splitlines()) == 1


@pytest.mark.parametrize("arguments", ["[" * 200_000, '{"a": ' * 100_000, "9" * 10_000])
def test_arguments_that_no_parser_takes_are_shown_as_they_are(arguments: str) -> None:
    assert call_summary(call("add", arguments)) == f"add({arguments[:95]}…"


def test_an_idempotent_tool_that_broke_off_is_an_error() -> None:
    answer = only_result(unknown_outcome(ADD, call("add"), "the worker died"))
    assert answer == ("1", "error", "add could not be completed: the worker died")


def test_any_other_tool_that_broke_off_may_have_taken_effect() -> None:
    _, outcome, text = only_result(unknown_outcome(PAY, call("pay"), "the worker died"))
    assert outcome == "unknown"
    assert "the worker died while pay ran" in text
    assert "not run again" in text


def test_the_summary_of_a_model_call_says_what_was_saved() -> None:
    stub = tool_message(ToolCallPart(id="1", name="look"), ())
    new = tuple(SlotMessage(slot=slot, message=stub, same_as=2) for slot in (3, 4))
    spec = AgentSpec(name="a", models=(ModelSpec(name="x:y"),))
    request = CallModelRequest(spec=spec.digest, slots=5)
    assert model_summary(2, spec, request) == "turn 2 · x:y"
    shared = spec.model_copy(update={"settings": ModelSettings(cache="shared", temperature=0)})
    some = request.model_copy(update={"new": new})
    assert model_summary(2, shared, some) == "turn 2 · x:y · shared · 2 tool calls saved"
    assert model_summary(2, spec, request.model_copy(update={"new": new[:1]})).endswith(" · 1 tool call saved")
