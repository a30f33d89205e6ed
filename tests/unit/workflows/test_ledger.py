"""The ledger: worst cases that hold, and sums that never exceed the budget."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.contracts.budget import NOTHING, ONE_MODEL_CALL, Amount, Budget, Ledger, PromptSize, budget_of
from perdure.contracts.limits import Limits
from perdure.contracts.messages import BlobRef, ImagePart, Message, user_message
from perdure.contracts.spec import AgentSpec, ModelSpec, ToolSpec
from perdure.contracts.usage import Price, Usage
from perdure.workflows._ledger import (
    LEAST_OUTPUT_TOKENS,
    Hold,
    message_tokens,
    prompt_tokens,
    reserve,
    settle,
    spec_tokens,
    used_by,
    worst_case,
)

PRICE = Price(input_usd=Decimal(1), output_usd=Decimal(4), cache_write_usd=Decimal("1.25"))
SPEC = AgentSpec(
    name="a",
    instructions="Be brief.",
    models=(ModelSpec(name="x:y", price=PRICE),),
    tools=(ToolSpec(name="t", parameters={}),),
)
HI = user_message("hi")


def usd(text: str) -> Budget:
    return Budget(cost_usd=Decimal(text))


def test_the_worst_case_is_at_the_dearest_input_price() -> None:
    assert worst_case(PRICE, 1000, 500) == Amount(tokens=1500, cost_usd=Decimal("0.00325"), model_calls=1)


def test_without_a_price_tokens_alone_are_counted() -> None:
    assert worst_case(None, 1000, 500) == Amount(tokens=1500, model_calls=1)


@given(st.text(max_size=300))
def test_text_has_at_most_a_token_a_byte(text: str) -> None:
    message = user_message(text)
    assert message_tokens(message) >= len(text.encode(errors="replace"))


def test_an_image_is_more_than_its_bytes() -> None:
    image = ImagePart(blob=BlobRef(digest="0" * 64, size_bytes=10))
    assert message_tokens(Message(role="user", parts=(image,))) > 50_000


def test_what_was_counted_is_not_bounded_again() -> None:
    messages = [user_message("x" * 10_000), user_message("y" * 100)]
    counted = PromptSize(spec=SPEC.digest, model=0, slots=1, tokens=2500)
    assert prompt_tokens(Ledger(prompt=counted), SPEC, 0, messages) == 2500 + message_tokens(messages[1])


@pytest.mark.parametrize("other", [{"model": 1}, {"spec": "0"}, {"epoch": 1}])
def test_what_another_model_or_agent_counted_is_not_used(other: dict[str, Any]) -> None:
    counted = PromptSize(spec=SPEC.digest, model=0, slots=1, tokens=1).model_copy(update=other)
    assert prompt_tokens(Ledger(prompt=counted), SPEC, 0, [HI]) == spec_tokens(SPEC) + message_tokens(HI)


def test_the_reply_is_shortened_where_that_makes_the_call_fit() -> None:
    found = reserve(Ledger(), usd("0.003"), PRICE, prompt=1000, output=500)
    assert found is not None
    ledger, hold = found
    assert hold.output_tokens == 437
    assert ledger.reserved == hold.amount == worst_case(PRICE, 1000, 437)


def test_a_call_without_room_for_a_reply_is_not_made() -> None:
    least = worst_case(PRICE, 1000, LEAST_OUTPUT_TOKENS).cost_usd
    assert reserve(Ledger(), Budget(cost_usd=least), PRICE, prompt=1000, output=500) is not None
    assert reserve(Ledger(), Budget(cost_usd=least - Decimal("1e-9")), PRICE, prompt=1000, output=500) is None


def test_what_is_kept_is_left() -> None:
    kept = worst_case(PRICE, 1000, 100)
    budget = usd("0.005")
    found = reserve(Ledger(), budget, PRICE, prompt=1000, output=5000, kept=kept)
    assert found is not None
    assert budget.holds(found[0].reserved + kept)


def test_a_limit_of_tokens_holds_too() -> None:
    found = reserve(Ledger(), Budget(tokens=1300), None, prompt=1000, output=5000)
    assert found is not None
    assert found[1].output_tokens == 300
    assert reserve(Ledger(), Budget(tokens=1200), None, prompt=1000, output=5000) is None


def test_a_limit_of_calls_holds_too() -> None:
    ledger, made = Ledger(), 0
    while found := reserve(ledger, Budget(model_calls=3), None, prompt=1000, output=5000, kept=ONE_MODEL_CALL):
        ledger, made = settle(found[0], found[1], ONE_MODEL_CALL), made + 1
    assert made == 2, "the last one is kept"


def test_sums_and_bounds_are_of_each_kind() -> None:
    one = Amount(tokens=3, cost_usd=Decimal("0.5"), model_calls=1, tool_calls=2)
    assert one.times(3) - one == one + one
    limits = Limits(max_total_tokens=9, max_cost_usd=Decimal(2), max_model_calls=4, max_tool_calls=5)
    budget = budget_of(limits)
    assert budget.as_limits() == limits
    assert budget.tightened(Budget(tool_calls=1)).short_of(one) == "max_tool_calls=1"
    assert budget.changed_by(Limits(max_model_calls=1)).short_of(one + one) == "max_model_calls=1"
    assert (budget.holds(one), budget.short_of(one.times(4))) == (True, "max_total_tokens=9")


@pytest.mark.parametrize(
    ("usage", "price", "used"),
    [
        (
            Usage(input_tokens=9, cost_usd=Decimal("0.1")),
            PRICE,
            Amount(tokens=9, cost_usd=Decimal("0.1"), model_calls=1),
        ),
        (Usage(), PRICE, None),
        (Usage(input_tokens=5, output_tokens=5), None, Amount(tokens=10, model_calls=1)),
        (Usage(), None, None),
    ],
)  # fmt: skip
def test_what_the_vendor_does_not_say_counts_at_its_worst(
    usage: Usage, price: Price | None, used: Amount | None
) -> None:
    hold = Hold(Amount(tokens=100, cost_usd=Decimal(1)), 50, 50)
    assert used_by(usage, price, hold) == (hold.amount if used is None else used)


calls_made = st.lists(
    st.tuples(
        st.integers(1, 5000), st.integers(1, 3000), st.floats(0, 1), st.sampled_from(["ok", "free", "lost"])
    ),
    max_size=40,
)


@given(calls_made, st.decimals("0.0001", "0.1", places=6), st.none() | st.integers(1, 50_000))
def test_what_is_billed_never_exceeds_the_budget(made: list[Any], cost: Decimal, tokens: int | None) -> None:
    budget = Budget(cost_usd=cost, tokens=tokens)
    ledger, billed = Ledger(), NOTHING
    for prompt, output, share, end in made:
        found = reserve(ledger, budget, PRICE, prompt=prompt, output=output)
        if found is None:
            continue
        ledger, hold = found
        actual = worst_case(PRICE, int(prompt * share), int(hold.output_tokens * share))
        billed += NOTHING if end == "free" else actual
        ledger = settle(ledger, hold, {"ok": actual, "free": NOTHING, "lost": hold.amount}[end])
        assert budget.holds(billed)
        assert ledger.reserved == NOTHING
    assert ledger.spent.cost_usd >= billed.cost_usd
