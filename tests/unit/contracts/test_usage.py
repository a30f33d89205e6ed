"""Tokens and dollars: sums lose nothing, and what is unknown stays unknown."""

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from perdure.contracts.usage import NO_USAGE, Price, Usage
from tests.unit.contracts.strategies import contracts

usages = contracts(Usage)
dollars = st.decimals(0, 1000, places=6)
prices = st.builds(
    Price,
    input_usd=dollars,
    output_usd=dollars,
    cached_input_usd=st.none() | dollars,
    cache_write_usd=st.none() | dollars,
)


@st.composite
def consistent_usages(draw: st.DrawFn) -> Usage:
    cached, written, plain, output = (draw(st.integers(0, 10**7)) for _ in range(4))
    return Usage(
        input_tokens=cached + written + plain,
        cached_tokens=cached,
        cache_write_tokens=written,
        output_tokens=output,
    )


@given(usages, usages)
def test_a_sum_counts_every_token(one: Usage, two: Usage) -> None:
    total = one + two
    for name in ("input_tokens", "cached_tokens", "cache_write_tokens", "output_tokens", "reasoning_tokens"):
        assert getattr(total, name) == getattr(one, name) + getattr(two, name)
    assert total.total_tokens == one.total_tokens + two.total_tokens


@given(st.lists(usages, max_size=5))
def test_a_sum_is_unknown_as_soon_as_one_cost_is(parts: list[Usage]) -> None:
    costs = [each.cost_usd for each in parts]
    known = [cost for cost in costs if cost is not None]
    expected = sum(known, Decimal(0)) if len(known) == len(costs) else None
    assert sum(parts, NO_USAGE).cost_usd == expected


@given(usages)
def test_no_usage_changes_nothing(usage: Usage) -> None:
    assert NO_USAGE + usage == usage == usage + NO_USAGE


@given(consistent_usages(), prices)
def test_the_cost_is_the_sum_of_what_each_token_costs(usage: Usage, price: Price) -> None:
    plain = usage.input_tokens - usage.cached_tokens - usage.cache_write_tokens
    cached = price.input_usd if price.cached_input_usd is None else price.cached_input_usd
    written = price.input_usd if price.cache_write_usd is None else price.cache_write_usd
    lines = [
        (plain, price.input_usd),
        (usage.cached_tokens, cached),
        (usage.cache_write_tokens, written),
        (usage.output_tokens, price.output_usd),
    ]
    cost = usage.priced(price).cost_usd
    assert cost is not None
    assert Fraction(cost) == sum(Fraction(tokens) * Fraction(usd) for tokens, usd in lines) / 10**6


def test_a_free_cached_token_is_free() -> None:
    price = Price(input_usd=Decimal(2), output_usd=Decimal(0), cached_input_usd=Decimal(0))
    usage = Usage(input_tokens=1_000_000, cached_tokens=500_000)
    assert usage.priced(price).cost_usd == 1
    assert usage.priced(price.model_copy(update={"cached_input_usd": None})).cost_usd == 2


@given(usages)
def test_no_price_is_not_free(usage: Usage) -> None:
    assert usage.priced(None).cost_usd is None
    assert (usage.priced(None) + usage.priced(None)).total_tokens == 2 * usage.total_tokens


def test_a_price_of_nothing_is_known_to_be_nothing() -> None:
    free = Price(input_usd=Decimal(0), output_usd=Decimal(0))
    assert Usage(input_tokens=5, output_tokens=5).priced(free).cost_usd == 0


def test_reasoning_is_paid_for_once() -> None:
    price = Price(input_usd=Decimal(0), output_usd=Decimal(1))
    usage = Usage(output_tokens=1_000_000, reasoning_tokens=900_000)
    assert usage.priced(price).cost_usd == 1


def test_tokens_are_never_negative() -> None:
    with pytest.raises(ValidationError):
        Usage(input_tokens=-1)
