"""What a memory keeps, and which entries make room: a model of it as a list in the order of use."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from perdure.contracts.memory import ForgetRequest, MemoryBatch, MemoryEntry, MemoryState
from perdure.workflows._memories import Memories

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LATER = NOW + timedelta(days=1)


def entry(key: str, text: str = "x", *, expires_at: datetime | None = None) -> MemoryEntry:
    return MemoryEntry(key=key, text=text, at=NOW, expires_at=expires_at)


def batch(
    name: str, *entries: MemoryEntry, recalled: tuple[str, ...] = (), most: int | None = None
) -> MemoryBatch:
    return MemoryBatch(id=name, entries=entries, recalled=recalled, max_bytes=most)


def keys(memories: Memories, now: datetime = NOW) -> list[str]:
    return [each.key for each in memories.view(now).entries]


def test_a_key_is_replaced_and_a_batch_taken_once() -> None:
    memories = Memories(MemoryState())
    memories.take(batch("1", entry("home", "Rome"), entry("job", "cook")))
    memories.take(batch("2", recalled=("home",)))
    memories.take(batch("3", entry("home", "Oslo")))
    memories.take(batch("1", entry("home", "Rome")))
    found = memories.view(NOW).entries
    assert [(each.key, each.text, each.recalls) for each in found] == [("home", "Oslo", 1), ("job", "cook", 0)]


def test_what_was_not_used_for_the_longest_makes_room() -> None:
    size = len(entry("a").to_bytes())
    memories = Memories(MemoryState())
    memories.take(batch("1", entry("a"), entry("b"), entry("c"), most=3 * size + 20))
    memories.take(batch("2", recalled=("a", "gone")))
    memories.take(batch("3", entry("d")))
    assert keys(memories) == ["d", "a", "c"]
    view = memories.view(NOW)
    assert (len(view.entries), view.max_bytes, view.dropped) == (3, 3 * size + 20, 1)


def test_what_has_expired_is_not_told_and_then_dropped() -> None:
    memories = Memories(MemoryState())
    memories.take(batch("1", entry("a", expires_at=LATER), entry("b")))
    assert (memories.next_expiry(), keys(memories), keys(memories, LATER)) == (LATER, ["b", "a"], ["b"])
    assert memories.expire(NOW) == 0
    assert memories.expire(LATER) == 1
    assert (len(memories), memories.next_expiry()) == (1, None)


def test_what_is_forgotten_is_in_no_state() -> None:
    memories = Memories(MemoryState())
    memories.take(batch("1", entry("a", "secret"), entry("b"), entry("c")))
    assert memories.forget(ForgetRequest(keys=("a", "nothing"))) == ("a",)
    assert b"secret" not in memories.state().to_bytes()
    assert memories.forget(ForgetRequest(is_all=True)) == ("b", "c")
    assert memories.state().batches == ("1",), "a batch that comes again stays known"


_names = st.sampled_from("abcdef")


def _batch(number: int, written: list[str], recalled: tuple[str, ...], most: int | None) -> MemoryBatch:
    return batch(str(number), *map(entry, written), recalled=recalled, most=most)


_batches = st.builds(
    _batch,
    st.integers(0, 30),
    st.lists(_names, max_size=3),
    st.lists(_names, max_size=3).map(tuple),
    st.none() | st.integers(60, 400),
)


@given(st.lists(_batches, max_size=30), st.integers(0, 30))
def test_it_is_bounded_and_goes_on_where_it_was(batches: list[MemoryBatch], continued: int) -> None:
    memories, twin = Memories(MemoryState()), Memories(MemoryState())
    for number, each in enumerate(batches):
        memories.take(each)
        twin.take(each)
        if number == continued:
            twin = Memories(MemoryState.model_validate_json(twin.state().to_bytes()))
        view = memories.view(NOW)
        assert view.bytes <= view.max_bytes
        assert view.bytes == sum(len(kept.to_bytes()) for kept in view.entries)
    assert memories.state() == twin.state()
