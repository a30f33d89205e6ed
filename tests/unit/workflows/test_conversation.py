"""The conversation that a workflow holds: slots in order, each message recorded once."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from perdure.contracts.calls import SlotMessage
from perdure.contracts.compaction import CompactedPart
from perdure.contracts.digests import ConversationDigest, message_digest, told_digest
from perdure.contracts.messages import Message, TextPart, user_message
from perdure.contracts.run import MessagesPage, MessagesQuery
from perdure.workflows._conversation import Conversation

MB = 1_000_000


def reply(text: str) -> Message:
    return Message(role="assistant", parts=(TextPart(text=text),))


def ask(conversation: Conversation, **fields: Any) -> MessagesPage:
    return conversation.page(MessagesQuery(conversation="main", **fields))


def read_all(conversation: Conversation, stop: int | None = None) -> list[MessagesPage]:
    """Ask for page after page, as an activity does."""
    pages = [ask(conversation, stop=stop)]
    while pages[-1].messages:
        last = pages[-1]
        pages.append(ask(conversation, start=last.start + len(last.messages), stop=stop))
    return pages


steps = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.booleans()),
        st.tuples(st.just("tools"), st.lists(st.booleans(), min_size=1, max_size=4)),
        st.tuples(st.just("take"), st.none()),
    ),
    max_size=15,
)


@given(steps, st.randoms(use_true_random=False))
def test_every_message_stays_in_its_slot_and_is_recorded_once(taken: list[Any], random: Any) -> None:
    conversation = Conversation()
    expected: list[Message] = []
    recorded_elsewhere: set[int] = set()
    taken_new: list[SlotMessage] = []
    for kind, detail in taken:
        if kind == "append":
            expected.append(user_message(f"message {len(expected)}"))
            assert conversation.append(expected[-1], is_recorded=detail) == len(expected) - 1
            recorded_elsewhere |= {len(expected) - 1} if detail else set()
        elif kind == "tools":
            _answer_in_any_order(conversation, expected, recorded_elsewhere, detail, random)
        else:
            taken_new += _take(conversation)
            assert conversation.digest() == ConversationDigest(map(message_digest, expected)).told()
    taken_new += _take(conversation)
    slots = [each.slot for each in taken_new]
    assert sorted([*slots, *recorded_elsewhere]) == list(range(len(expected)))
    assert all(each.message == expected[each.slot] for each in taken_new)
    assert ask(conversation).messages == tuple(expected)
    assert conversation.take_new() == ()


def _take(conversation: Conversation) -> tuple[SlotMessage, ...]:
    new = conversation.take_new()
    assert [each.slot for each in new] == sorted(each.slot for each in new)
    return new


def _answer_in_any_order(
    conversation: Conversation, expected: list[Message], recorded: set[int], flags: list[bool], random: Any
) -> None:
    first = conversation.reserve(len(flags))
    assert first == len(expected)
    expected += [user_message(f"result {first + index}") for index in range(len(flags))]
    assert len(conversation) == len(expected)
    order = list(enumerate(flags, first))
    random.shuffle(order)
    for slot, is_recorded in order:
        conversation.fill(slot, expected[slot], is_recorded=is_recorded)
        recorded |= {slot} if is_recorded else set()


@given(st.lists(st.sampled_from([10, 300_000, 600_000, 999_000, 2_500_000]), max_size=8))
def test_pages_hold_everything_in_order_and_a_megabyte_at_most(sizes: list[int]) -> None:
    conversation = Conversation()
    written = [user_message("x" * size) for size in sizes]
    for message in written:
        conversation.append(message, is_recorded=True)
    pages = read_all(conversation)
    assert [message for page in pages for message in page.messages] == written
    for page in pages[:-1]:
        assert page.total == len(sizes)
        assert len(page.messages) == 1 or sum(len(each.to_bytes()) for each in page.messages) <= MB


def test_a_page_is_as_full_as_it_can_be() -> None:
    conversation = Conversation()
    for _ in range(5):
        conversation.append(user_message("x" * 300_000), is_recorded=True)
    assert [len(page.messages) for page in read_all(conversation)] == [3, 2, 0]


@given(st.integers(0, 6), st.none() | st.integers(0, 9), st.integers(0, 6))
def test_a_page_ends_where_it_is_told_to_or_at_a_slot_that_waits(count: int, stop: int | None, start: int) -> None:
    conversation = Conversation()
    written = [user_message(str(number)) for number in range(count)]
    for message in written:
        conversation.append(message, is_recorded=True)
    conversation.reserve(2)
    page = ask(conversation, start=start, stop=stop)
    assert list(page.messages) == written[start:stop]
    assert (page.start, page.total) == (start, count + 2)


def test_a_slot_that_waits_hides_what_comes_after_it() -> None:
    conversation = Conversation()
    first = conversation.reserve(2)
    conversation.fill(first + 1, user_message("second"), is_recorded=True)
    assert ask(conversation).messages == ()
    conversation.fill(first, user_message("first"), is_recorded=True)
    assert [each.text for each in ask(conversation).messages] == ["first", "second"]


def test_the_digest_of_an_epoch_is_of_its_messages() -> None:
    conversation = Conversation()
    for text in "abc":
        conversation.append(user_message(text), is_recorded=True)
    conversation.digest()
    conversation.compact((CompactedPart(message=user_message("short")), CompactedPart(start=2, stop=3)))
    messages = [user_message("short"), user_message("c")]
    assert conversation.digest(1) == ConversationDigest([message_digest(messages[0])]).told()
    assert conversation.digest() == ConversationDigest(map(message_digest, messages)).told()
    assert conversation.digest_of(1) == told_digest(message_digest(messages[1]))


def test_the_last_text_is_the_models() -> None:
    conversation = Conversation()
    assert conversation.last_text() == ""
    for message in (reply("one"), reply("two"), reply(""), user_message("mine")):
        conversation.append(message, is_recorded=True)
    conversation.reserve(1)
    assert conversation.last_text() == "two"


def test_it_knows_its_name_and_epoch() -> None:
    assert (Conversation().name, Conversation().epoch) == ("main", 0)
    assert (Conversation("side", 2).name, Conversation("side", 2).epoch) == ("side", 2)


@pytest.mark.parametrize("bounds", [{"start": -1}, {"stop": -1}])
def test_slots_are_counted_from_the_front(bounds: dict[str, int]) -> None:
    with pytest.raises(ValidationError, match="greater than or equal to 0"):
        MessagesQuery.model_validate({"conversation": "main", **bounds})
