"""What a run has paid for, by agent and model: nothing is lost, and nothing counts twice."""

from datetime import UTC, datetime
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from perdure.contracts.bill import Bill, BillItem
from perdure.contracts.budget import NOTHING
from perdure.contracts.run import Carried, Counters, RunInput
from perdure.contracts.usage import NO_USAGE, Usage

USAGE = Usage(input_tokens=5, output_tokens=7, cost_usd=Decimal("0.5"))
usages = st.builds(
    Usage,
    input_tokens=st.integers(0, 10**6),
    output_tokens=st.integers(0, 10**6),
    cost_usd=st.none() | st.decimals(0, 1000, places=6),
)
calls = st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("xy"), usages), max_size=8)


@given(calls)
def test_the_sum_is_that_of_the_calls(made: list[tuple[str, str, Usage]]) -> None:
    bill = Bill()
    for agent, model, usage in made:
        bill = bill.plus(agent, model, usage)
    assert bill.usage == sum((usage for _, _, usage in made), NO_USAGE)
    pairs = [(item.agent, item.model) for item in bill.items]
    assert pairs == list(dict.fromkeys((agent, model) for agent, model, usage in made if usage != NO_USAGE))


def test_a_call_that_another_run_paid_is_not_on_it() -> None:
    assert Bill().plus("a", "x", NO_USAGE) == Bill()


def test_what_the_vendor_did_not_tell_makes_one_item_unknown() -> None:
    bill = Bill().plus("a", "x", USAGE).plus("a", "y", Usage()).plus("a", "x", USAGE)
    assert [item.usage.cost_usd for item in bill.items] == [Decimal(1), None]


def carried(**values: object) -> Carried:
    counters = Counters(usage=USAGE)
    begun = datetime(2026, 1, 1, tzinfo=UTC)
    known = Carried(from_run_id="r0", spec="d", conversation_slots=3, started_at=begun, counters=counters)
    return known.model_copy(update=values)


def test_a_run_begins_with_the_bill_of_its_chain() -> None:
    bill = Bill().plus("b", "y", USAGE)
    assert RunInput(agent="a").first_bill() == Bill()
    assert RunInput(agent="a", carried=carried(bill=bill)).first_bill() == bill


def test_a_chain_that_is_older_than_bills_keeps_its_sum() -> None:
    bill = RunInput(agent="a", carried=carried()).first_bill()
    assert bill.items == (BillItem(agent="a", model="", usage=USAGE),)


def test_what_a_run_paid_that_is_started_again_is_on_its_own_bill() -> None:
    assert RunInput(agent="a", carried=carried(first_run_id="r0")).first_bill() == Bill()
    assert RunInput(agent="a", carried=carried(), spent=NOTHING).first_bill() == Bill()
