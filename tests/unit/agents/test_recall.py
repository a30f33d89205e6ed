"""What is recalled: texts that share words with the question, in one order on every machine."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.agents.recall import rank
from perdure.contracts.memory import MemoryEntry

TEXTS = {
    "home": "Lives in Trondheim, Norway.",
    "food": "Is allergic to peanuts; likes fish.",
    "work": "Is a carpenter and repairs boats in Norway.",
    "boat": "Owns a boat named Sula. The boat leaks.",
}
ENTRIES = [MemoryEntry(key=key, text=text, at=datetime(2026, 1, 1, tzinfo=UTC)) for key, text in TEXTS.items()]


def found(query: str, limit: int = 5) -> list[str]:
    return [entry.key for entry in rank(query, ENTRIES, limit)]


@pytest.mark.parametrize(
    ("query", "keys"),
    [
        ("Where is home?", ["home", "food", "work"]),
        ("boat", ["boat", "work"]),
        ("BOATS", ["boat", "work"]),
        ("allergies", ["food"]),
        ("fish boat", ["food", "boat", "work"]),
        ("weather", []),
        ("?!", ["home", "food", "work", "boat"]),
        ("", ["home", "food", "work", "boat"]),
    ],
)
def test_order(query: str, keys: list[str]) -> None:
    assert found(query) == keys


def test_no_more_than_the_limit() -> None:
    assert found("", 2) == ["home", "food"]
    assert found("norway", 1) == ["home"]
    assert rank("x", [], 5) == []


@given(st.lists(st.text(max_size=30), max_size=8), st.text(max_size=20))
def test_any_text(texts: list[str], query: str) -> None:
    entries = [MemoryEntry(key=str(n), text=text, at=ENTRIES[0].at) for n, text in enumerate(texts)]
    first = rank(query, entries, 3)
    assert first == rank(query, entries, 3)
    assert len(first) <= 3
