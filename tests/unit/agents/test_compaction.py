"""Declaring how room is made."""

from functools import partial
from typing import Any

import pytest

from perdure import Agent, Compaction
from perdure.contracts.compaction import CompactionStep
from perdure.errors import SettingsError, UnknownModelError


def shorter(messages: Any, target_tokens: int) -> Any:
    return messages


def test_what_a_run_records_of_it() -> None:
    spec = Compaction(by=["drop_tool_results", shorter], at=0.9, to=0.3, context_window_tokens=32_000).spec(None)
    assert spec is not None
    assert spec.steps == (
        CompactionStep(action="drop_tool_results"),
        CompactionStep(action="function", function="shorter"),
    )
    assert (spec.at, spec.to, spec.context_window_tokens) == (0.9, 0.3, 32_000)


def test_none_at_all() -> None:
    assert Compaction(by=()).spec(None) is None


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"by": "forget"}, "'forget' is no way"),
        ({"by": partial(print)}, "has a name"),
        ({"at": 0.3, "to": 0.4}, "to < at"),
        ({"at": 1.5}, "at ≤ 1"),
        ({"to": 0.01}, "to < at"),
        ({"keep_turns": 0}, "at least 1"),
        ({"context_window_tokens": 10}, "at least 1000"),
    ],
)
def test_values_that_cannot_be_used(values: dict[str, Any], problem: str) -> None:
    with pytest.raises(SettingsError, match=problem):
        Compaction(**values)


def test_the_summariser_has_a_provider() -> None:
    with pytest.raises(UnknownModelError, match="provider:model"):
        Agent("a", model="x:y", compaction=Compaction(model="mini"))
