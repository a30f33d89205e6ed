"""Which limits a tree of runs shares, and which are of each run."""

from datetime import timedelta
from decimal import Decimal

import pytest

from perdure import Limits
from perdure.cli._limits import money_pairs
from perdure.client._limits import only_shared, shared_part, without_shared
from perdure.client._show import money_now
from perdure.contracts.budget import Amount, Budget
from perdure.contracts.limits import SHARED_LIMITS
from perdure.contracts.money import MoneyStatus
from perdure.errors import InvalidInputError

SHARED = Limits(
    max_cost_usd=Decimal(1),
    max_total_tokens=1000,
    max_model_calls=3,
    max_tool_calls=4,
    wall_clock=timedelta(seconds=60),
    allow_unknown_prices=True,
)


def test_every_limit_is_of_the_tree_or_of_each_run() -> None:
    limits = SHARED.model_copy(update={"max_turns": 5, "max_depth": 1})
    assert shared_part(limits) == SHARED
    assert without_shared(limits) == Limits(max_turns=5, max_depth=1, allow_unknown_prices=True)
    assert only_shared(SHARED) == SHARED
    assert {name for name in Limits.model_fields if getattr(SHARED, name) is not None} == set(SHARED_LIMITS)


@pytest.mark.parametrize("other", ["max_turns", "max_depth", "max_handoffs"])
def test_others_are_refused_for_a_plan(other: str) -> None:
    with pytest.raises(InvalidInputError, match=f"{other} can't be shared"):
        only_shared(SHARED.model_copy(update={other: 5}))


def test_show_tells_what_is_left_of_each() -> None:
    budget = Budget(tokens=1000, cost_usd=Decimal(1), model_calls=3, tool_calls=4)
    spent = Amount(tokens=100, cost_usd=Decimal("0.25"), model_calls=2, tool_calls=4)
    told = dict(money_pairs(money_now(MoneyStatus(budget=budget, spent=spent))))
    assert told["spent"] == "$0.2500, 100 tokens, 2 model calls, 4 tool calls"
    assert told["left"] == "$0.7500, 900 tokens, 1 model call, 0 tool calls"
