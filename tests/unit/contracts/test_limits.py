"""Limits over limits, and what may be written in them."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from pydantic import ValidationError

from perdure.contracts.limits import DEFAULT_LIMITS, Limits, ModelSettings
from tests.unit.contracts.strategies import contracts

limits = contracts(Limits)


@given(limits, limits)
def test_a_limit_is_the_upper_ones_where_that_has_one(upper: Limits, base: Limits) -> None:
    merged = upper.over(base)
    for name in Limits.model_fields:
        mine = getattr(upper, name)
        assert getattr(merged, name) == (getattr(base, name) if mine is None else mine)


@given(limits, limits, limits)
def test_the_order_of_merging_does_not_matter(run: Limits, agent: Limits, base: Limits) -> None:
    assert run.over(agent.over(base)) == run.over(agent).over(base)
    assert run.over(Limits()) == run == Limits().over(run)


def test_zero_is_a_limit() -> None:
    assert Limits(max_depth=0, max_handoffs=0).over(DEFAULT_LIMITS).max_depth == 0


def test_every_run_has_an_end() -> None:
    resolved = Limits().over(DEFAULT_LIMITS)
    assert resolved.max_turns == 50
    assert resolved.max_consecutive_errors == 5


@pytest.mark.parametrize(
    "fields",
    [
        {"max_turns": 0},
        {"max_model_calls": -1},
        {"max_tool_calls": 1_000_001},
        {"max_cost_usd": Decimal(0)},
        {"wall_clock": timedelta(0)},
        {"max_parallel_tool_calls": 101},
        {"max_depth": 21},
        {"max_handoffs": -1},
        {"max_total_tokens": 0},
    ],
)
def test_a_limit_out_of_range_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Limits(**fields)


@pytest.mark.parametrize(
    "fields",
    [
        {"temperature": 2.1},
        {"top_p": 0},
        {"max_attempts": 0},
        {"timeout": timedelta(0)},
        {"stall_timeout": timedelta(seconds=-1)},
        {"max_wait": timedelta(0)},
        {"reasoning_effort": "extreme"},
    ],
)
def test_a_setting_out_of_range_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ModelSettings(**fields)
