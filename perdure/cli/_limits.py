"""Printing limits, and what a run has left of them."""

from collections.abc import Iterator

from perdure.cli._format import cost, plural, stamp
from perdure.cli._render import console, print_json, print_pairs
from perdure.client import Money
from perdure.contracts.budget import Amount, Budget
from perdure.contracts.limits import Limits


def print_limits(limits: Limits, output: str) -> None:
    """Print the limits that hold."""
    if output != "text":
        print_json(limits, output)
        return
    values = limits.model_dump(mode="json").items()
    print_pairs(console(), [(name, str(value)) for name, value in values])


def money_pairs(money: Money | None) -> Iterator[tuple[str, str]]:
    """Yield what is spent, reserved and left of the limits that are shared with what is below the run."""
    if money is None:
        return
    if money.deadline is not None:
        yield "ends at", stamp(money.deadline)
    if not money.budget.is_bound:
        return
    for name, amount in (("spent", money.spent), ("reserved", money.reserved), ("left", money.left)):
        if amount is not None:
            yield name, _of_limits(amount, money.budget)


def _of_limits(amount: Amount, budget: Budget) -> str:
    parts = [cost(amount.cost_usd)] if budget.cost_usd is not None else []
    if budget.tokens is not None:
        parts.append(plural(amount.tokens, "token"))
    if budget.model_calls is not None:
        parts.append(plural(amount.model_calls, "model call"))
    if budget.tool_calls is not None:
        parts.append(plural(amount.tool_calls, "tool call"))
    return ", ".join(parts)
