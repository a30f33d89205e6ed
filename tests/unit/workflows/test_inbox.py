"""The inbox of a run: in order, once, within bounds, over any number of runs."""

from hypothesis import given
from hypothesis import strategies as st

from perdure.contracts.messages import TextPart
from perdure.contracts.steering import (
    MAX_KNOWN_IDS,
    MAX_MESSAGE_BYTES,
    MAX_SENDS,
    MAX_WAITING,
    MAX_WAITING_BYTES,
    SendRequest,
)
from perdure.workflows._inbox import Inbox


def request(id: object, text: str = "x") -> SendRequest:
    return SendRequest(id=str(id), parts=(TextPart(text=text),))


def send(inbox: Inbox, id: object, text: str = "x") -> bool:
    given = request(id, text)
    if inbox.refusal(given):
        return False
    inbox.accept(given)
    return True


def test_bounds_are_told_with_what_to_do() -> None:
    inbox = Inbox()
    large = request("large", "x" * MAX_MESSAGE_BYTES)
    assert "more than 250,000: put it where a tool can read it" in inbox.refusal(large)
    assert inbox.is_too_large(large)
    assert all(send(inbox, number) for number in range(MAX_WAITING))
    assert "1,000 messages of" in inbox.refusal(request("one more"))
    assert not inbox.is_too_large(request("one more"))
    assert inbox.refusal(request(7)) == "", "one that is known is answered, however full it is"
    inbox.take()
    assert send(inbox, "one more")


def test_what_waits_fits_into_a_payload() -> None:
    inbox = Inbox()
    while send(inbox, f"{inbox.received:064}", "y" * 10_000):
        pass
    assert inbox.received == MAX_WAITING_BYTES // 10_120
    while send(inbox, f"{inbox.received:064}", "y"):
        pass
    carried = inbox.carried()
    assert carried is not None
    assert len(carried.to_bytes()) < MAX_WAITING_BYTES + 64 * 1.2 * MAX_KNOWN_IDS < 1_000_000


def test_a_run_takes_so_many_and_the_next_goes_on() -> None:
    inbox = Inbox()
    for number in range(MAX_SENDS):
        assert not inbox.is_worn
        assert send(inbox, number)
        inbox.take()
    assert inbox.is_worn
    assert "since it last continued as new" in inbox.refusal(request("more"))
    after = Inbox(inbox.carried())
    assert send(after, "more")
    assert after.accept(request("more")).number == MAX_SENDS + 1


def test_without_messages_nothing_is_carried() -> None:
    assert Inbox().carried() is None


@given(st.lists(st.one_of(st.integers(0, 15), st.sampled_from(["take", "continue"])), max_size=60))
def test_each_message_comes_once_in_order(steps: list[int | str]) -> None:
    inbox, taken, numbers = Inbox(), list[str](), dict[str, int]()
    for step in steps:
        if step == "take":
            taken += [each.id for each in inbox.take()]
        elif step == "continue":
            inbox = Inbox(inbox.carried())
        else:
            number = inbox.accept(request(step)).number
            assert numbers.setdefault(str(step), number) == number
    taken += [each.id for each in inbox.take()]
    assert taken == list(dict.fromkeys(str(step) for step in steps if isinstance(step, int)))
    assert list(numbers.values()) == list(range(1, len(numbers) + 1))
