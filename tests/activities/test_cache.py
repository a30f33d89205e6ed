"""The worker's memory is bounded, whatever is put into it, and forgets what was not used for longest."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.activities._cache import ConversationKey, MessageCache, Slot, SpecCache
from perdure.contracts.messages import (
    ImagePart,
    Message,
    ReasoningPart,
    TextPart,
    ToolCallPart,
    tool_message,
    user_message,
)
from perdure.contracts.spec import AgentSpec, ModelSpec
from perdure.providers.base import Fragment

KEYS = [ConversationKey("wf", str(number), "main", 0) for number in range(4)]
LARGE = "x" * 50_000
CALL = ToolCallPart(id="1", name="a", arguments="{}")


def slot(text: str, *, size: int = 0) -> Slot:
    fragments = {"p": Fragment("user", b"x" * size)} if size else dict[str, Fragment]()
    return Slot(user_message(text), fragments)


def held(cache: MessageCache) -> dict[ConversationKey, dict[int, Slot]]:
    """Return what it holds, without touching the order of use."""
    return cache._conversations


def size_of(slots: Any) -> int:
    return sum(
        len(each.message.to_bytes()) + sum(len(fragment.body) for fragment in each.fragments.values())
        for each in slots
    )


actions = st.lists(
    st.tuples(
        st.sampled_from(["put", "get", "grow", "forget"]),
        st.sampled_from(KEYS),
        st.integers(0, 3),
        st.sampled_from([0, 10, 5000, 30_000]),
    ),
    max_size=30,
)


@given(actions, st.sampled_from([0, 5000, 40_000, 200_000]))
def test_the_bound_holds(taken: list[Any], bound: int) -> None:
    cache = MessageCache(bound)
    for action, key, number, size in taken:
        if action == "put":
            cache.put(key, {number: slot("y" * size)})
        elif action == "get":
            cache.get(key)
        elif action == "forget":
            cache.forget(key)
        elif number in held(cache).get(key, {}):
            protocol = f"p{len(held(cache)[key][number].fragments)}"
            held(cache)[key][number].fragments[protocol] = Fragment("user", b"z" * size)
            cache.grow(key, size)
        kept = [each for slots in held(cache).values() for each in slots.values()]
        assert size_of(kept) <= bound
        assert cache._bytes == sum(each.size() for each in kept)


@pytest.mark.parametrize(
    "message",
    [
        user_message(LARGE),
        Message(role="assistant", parts=(ReasoningPart(text=LARGE),)),
        Message(role="assistant", parts=(ReasoningPart(vendor={"anthropic": {"signature": LARGE}}),)),
        Message(role="assistant", parts=(ToolCallPart(id="1", name="a", arguments=LARGE),)),
        tool_message(CALL, LARGE),
        tool_message(CALL, (TextPart(text="x"), TextPart(text=LARGE))),
        Message(role="user", parts=(ImagePart(url=LARGE),)),
        Message(role="assistant", vendor={"openai": LARGE}),
        user_message("é" * 50_000),
    ],
)
def test_everything_large_counts(message: Message) -> None:
    assert 50_000 < Slot(message).size() < 2 * 50_000 + 10_000


@given(st.lists(st.sampled_from(KEYS), min_size=1, max_size=12))
def test_the_least_recently_used_are_forgotten_first(used: list[ConversationKey]) -> None:
    cache = MessageCache(2 * Slot(user_message(LARGE)).size())
    recent: list[ConversationKey] = []
    for number, key in enumerate(used):
        if number % 2 and cache.get(key):
            pass
        else:
            cache.put(key, {0: slot(LARGE)})
        recent = [*(each for each in recent if each != key), key][-2:]
        assert list(held(cache)) == recent


def test_reading_a_conversation_is_using_it() -> None:
    cache = MessageCache(2 * slot(LARGE).size())
    cache.put(KEYS[0], {0: slot(LARGE)})
    cache.put(KEYS[1], {0: slot(LARGE)})
    cache.get(KEYS[0])
    cache.put(KEYS[2], {0: slot(LARGE)})
    assert list(held(cache)) == [KEYS[0], KEYS[2]]


def test_a_conversation_larger_than_the_bound_is_not_kept() -> None:
    cache = MessageCache(10_000)
    cache.put(KEYS[0], {0: slot("small")})
    cache.put(KEYS[1], {0: slot(LARGE)})
    assert held(cache) == {}
    assert cache._bytes == 0


def test_a_slot_that_is_put_again_counts_once() -> None:
    cache = MessageCache(1_000_000)
    first = slot("a", size=100)
    cache.put(KEYS[0], {0: first})
    cache.put(KEYS[0], {0: first})
    assert cache._bytes == first.size()
    second = slot(LARGE)
    cache.put(KEYS[0], {0: second})
    assert cache._bytes == second.size()
    assert cache.get(KEYS[0]) == {0: second}


def test_fragments_of_a_forgotten_conversation_count_for_nothing() -> None:
    cache = MessageCache(1_000_000)
    cache.grow(KEYS[0], 500)
    cache.forget(KEYS[0])
    assert cache._bytes == 0
    assert cache.get(KEYS[0]) == {}


def test_specs_are_bounded_by_number() -> None:
    specs = [AgentSpec(name=name, models=(ModelSpec(name="x:y"),)) for name in "abc"]
    cache = SpecCache(max_entries=2)
    cache.put(specs[0])
    cache.put(specs[1])
    assert cache.get(specs[0].digest) is specs[0]
    cache.put(specs[2])
    assert [cache.get(spec.digest) for spec in specs] == [specs[0], None, specs[2]]
