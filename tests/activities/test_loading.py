"""Pinning an agent, and copying a conversation into the run that continues it."""

from collections.abc import Mapping
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from perdure import Agent, Limits, ModelSettings, tool
from perdure.activities._cache import ConversationKey
from perdure.contracts.calls import CopyConversationRequest, CopyConversationResult, SlotMessage, Verdict
from perdure.contracts.limits import DEFAULT_LIMITS
from perdure.contracts.messages import user_message
from perdure.contracts.spec import ModelSpec
from perdure.contracts.usage import Price
from perdure.errors import (
    ConversationUnavailableError,
    PayloadTooLargeError,
    UnknownAgentError,
    UnknownModelError,
    UserError,
)
from tests.activities.conftest import MakeRig
from tests.activities.rig import SECRET, FakeTemporal, Rig

OLD = ConversationKey("wf", "old", "main", 0)
NEW = ConversationKey("wf", "run", "main", 0)
PRICE = Price(input_usd=Decimal(1), output_usd=Decimal(2))


@tool
def search(query: str) -> str:
    """Search."""
    raise NotImplementedError


def check_facts() -> str:
    """Verify."""
    raise NotImplementedError


def find_model(name: str) -> tuple[Price | None, int | None]:
    return (PRICE, 9000) if name == "scripted:x" else (None, None)


async def test_a_spec_is_all_that_the_run_needs(make_rig: MakeRig) -> None:
    plain = {"description": "Finds out.", "instructions": "Be brief.", "on_limit": "fail"}
    settings = ModelSettings(temperature=0.5)
    rig = make_rig(
        model=["scripted:x", "scripted:y"],
        find_model=find_model,
        tools=[search],
        output=list[int],
        settings=settings,
        **plain,
    )
    spec = await rig.pin(context={"name": "Ada"})
    prices = (ModelSpec(name="scripted:x", price=PRICE, context_window_tokens=9000), ModelSpec(name="scripted:y"))
    assert (spec.models, spec.tools, spec.settings) == (prices, (search.spec,), settings)
    assert spec.model_dump(include=set(plain)) == plain
    assert spec.output is not None
    assert spec.output.is_wrapped
    assert spec.context == {"name": "Ada"}
    assert rig.lookup.specs.get(spec.digest) is spec


async def test_a_spec_holds_what_other_agents_and_the_server_know(make_rig: MakeRig) -> None:
    others = ["other", Agent("third", model="scripted:x")]
    attributes = frozenset({"PerdureState", "PerdureAgent"})
    agents = [
        Agent("worker", model="scripted:x", tags=["a"], capabilities=["b"], handoffs=others),
        Agent("other", model="scripted:x", description="Knows better."),
    ]
    spec = await make_rig(agents=agents, attributes=attributes).pin()
    assert (spec.tags, spec.capabilities, spec.handoffs) == (("a",), ("b",), ("other", "third"))
    assert [(tool.name, tool.handoff) for tool in spec.tools] == [
        ("handoff_to_other", "other"),
        ("handoff_to_third", "third"),
    ]
    assert "Knows better." in spec.tools[0].description
    assert spec.search_attributes == ("PerdureAgent", "PerdureState")
    assert spec.heartbeat_timeout == timedelta(seconds=3)


@pytest.mark.parametrize(
    ("verify", "name"),
    [
        (None, None),
        (check_facts, "check_facts"),
        ("by name", "by name"),
        (Agent("judge", model="a:b", output=Verdict), "judge"),
        (3, None),
    ],
)
async def test_a_verifier_is_recorded_by_name(make_rig: MakeRig, verify: Any, name: str | None) -> None:
    assert (await make_rig(verify=verify).pin()).verify == name


async def test_the_runs_limits_go_over_the_agents(make_rig: MakeRig) -> None:
    rig = make_rig(limits=Limits(max_turns=10, max_tool_calls=20))
    spec = await rig.pin(limits=Limits(max_turns=3))
    assert (spec.limits.max_turns, spec.limits.max_tool_calls) == (3, 20)
    assert spec.limits.max_depth == DEFAULT_LIMITS.max_depth


def serve(values: Mapping[str, Any]) -> str:
    return f"Serve {values['name']}."


def misspell(values: Mapping[str, Any]) -> str:
    return values["nme"]


def tell_secret(values: Mapping[str, Any]) -> str:
    raise ValueError(f"not with {SECRET}")


def forget_to_return(values: Mapping[str, Any]) -> Any:
    """Return nothing."""


async def wait_for_name(values: Mapping[str, Any]) -> str:
    return f"Serve {values['name']}."


@pytest.mark.parametrize("function", [serve, wait_for_name])
async def test_instructions_may_be_a_function_of_the_context(make_rig: MakeRig, function: Any) -> None:
    assert (await make_rig(instructions=function).pin(context={"name": "Ada"})).instructions == "Serve Ada."


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (misspell, "failed: KeyError: 'nme'"),
        (tell_secret, r"failed: ValueError: not with \*\*\*"),
        (wait_for_name, "failed: KeyError: 'name'"),
        (forget_to_return, "returned a NoneType, not a str"),
    ],
)
async def test_instructions_that_fail_are_the_users_mistake(make_rig: MakeRig, function: Any, said: str) -> None:
    with pytest.raises(UserError, match=f"instructions function of agent 'worker' {said}") as caught:
        await make_rig(instructions=function).pin()
    assert caught.value.non_retryable
    assert SECRET not in str(caught.value)


async def test_what_is_not_there_is_told_at_the_start(make_rig: MakeRig) -> None:
    with pytest.raises(UnknownAgentError, match="Did you mean 'worker'"):
        await make_rig().pin("workr")
    with pytest.raises(UnknownModelError, match="no provider 'openay'"):
        await make_rig(model="openay:gpt").pin()


async def test_a_spec_too_large_for_history_is_refused(make_rig: MakeRig) -> None:
    with pytest.raises(PayloadTooLargeError, match="more than 1000000: shorten") as caught:
        await make_rig(instructions="x" * 1_000_000).pin()
    assert caught.value.non_retryable


async def copy(rig: Rig, spec: str, start: int, stop: int, temporal: FakeTemporal) -> CopyConversationResult:
    request = CopyConversationRequest(from_run_id="old", spec=spec, start=start, stop=stop)
    return await rig.environment(client=temporal).run(rig.copy_conversation, request)


async def test_a_conversation_is_copied_page_by_page(make_rig: MakeRig) -> None:
    messages = [user_message(letter * 400_000) for letter in "abcde"]
    rig = make_rig()
    spec = await rig.pin()
    temporal = FakeTemporal(messages, spec)
    copied: list[SlotMessage] = []
    specs: list[str | None] = []
    while len(copied) < 5:
        page = await copy(rig, spec.digest, len(copied), 5, temporal)
        assert len(page.to_bytes()) < 1_000_000
        specs.append(page.spec.digest if page.spec else None)
        copied += [SlotMessage(slot=n, message=each) for n, each in enumerate(page.messages, page.start)]
    assert [(each.slot, each.message) for each in copied] == list(enumerate(messages))
    assert specs == [spec.digest, None, None], "the spec comes with the first page alone"
    assert rig.lookup.cache.get(NEW).keys() == {0, 1, 2, 3, 4}
    assert rig.lookup.cache.get(OLD) == {}, "nobody needs the old run any more"
    assert len(temporal.queries) == 3, "the later pages come from the cache"


async def test_a_message_larger_than_a_page_is_copied_alone(make_rig: MakeRig) -> None:
    rig = make_rig()
    spec = await rig.pin()
    temporal = FakeTemporal([user_message("x" * 1_500_000), user_message("y")], spec)
    assert [len((await copy(rig, spec.digest, start, 2, temporal)).messages) for start in (0, 1)] == [1, 1]


async def test_a_spec_that_leaves_no_room_for_a_message_comes_alone(make_rig: MakeRig) -> None:
    rig = make_rig(instructions="i" * 900_000)
    spec = await rig.pin()
    messages = [user_message("x" * 1_200_000), user_message("y")]
    request = CopyConversationRequest(from_run_id="old", spec=spec.digest, start=0, stop=2, may_split=True)
    environment = rig.environment(client=FakeTemporal(messages, spec))
    alone = await environment.run(rig.copy_conversation, request)
    assert (alone.spec, alone.messages) == (spec, ())
    first = await environment.run(rig.copy_conversation, request.model_copy(update={"spec": ""}))
    assert (first.spec, first.start, first.messages) == (None, 0, tuple(messages[:1]))
    small = [user_message("x" * 900_000)]
    environment = rig.environment(client=FakeTemporal(small, spec))
    both = await environment.run(rig.copy_conversation, request.model_copy(update={"stop": 1}))
    assert (both.spec, both.messages) == (spec, tuple(small))


async def test_a_conversation_that_is_gone_is_looked_for_again(make_rig: MakeRig) -> None:
    rig = make_rig()
    spec = await rig.pin()
    with pytest.raises(ConversationUnavailableError) as caught:
        await copy(rig, spec.digest, 0, 2, FakeTemporal(events=[]))
    assert not caught.value.non_retryable


async def test_a_limit_in_dollars_needs_a_price(make_rig: MakeRig) -> None:
    rig = make_rig(limits=Limits(max_cost_usd=Decimal(1)))
    with pytest.raises(UserError, match="the price of scripted:x is not known"):
        await rig.pin()

    def find_model(name: str) -> tuple[Price, None]:
        return PRICE, None

    priced = make_rig(limits=Limits(max_cost_usd=Decimal(1)), find_model=find_model)
    assert (await priced.pin()).limits.max_cost_usd == 1
