"""Whether limits that are shared can be set on what is at work. Workflow side; pure."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

from perdure.contracts.budget import NOTHING, Amount, Budget, budget_of
from perdure.contracts.limits import Limits
from perdure.errors import InvalidInputError
from perdure.workflows._accounts import Account


def check_amounts(given: Limits, account: Account, *, open_children: int) -> None:
    """Refuse limits of money, tokens and calls that an account can't keep any more.

    Raises:
        InvalidInputError: They are below what is spent, held back or lent; or it is another run's limit that is
            reached. Not retryable.
    """
    for name, (taken, _) in bounded(account.purse.taken, account.ledger.budget).items():
        check_not_below(given, name, taken, "spent or held back")
    check_new_bound(given, account.ledger.budget, open_children)
    lease = account.ledger.lease
    if budget_of(given).is_bound and lease is not None and account.purse.is_waiting and lease.parent:
        root = lease.root or lease.parent
        raise InvalidInputError(
            f"The run waits for its share of the limit of {root!r}, not at one of its own: "
            f"`perdure limit {root}` raises it."
        )


def check_new_bound(given: Limits, budget: Budget, open_children: int) -> None:
    """Refuse to begin to count what runs that are at work don't count.

    Raises:
        InvalidInputError: Not retryable.
    """
    for name, (_, bound) in bounded(NOTHING, budget).items():
        if getattr(given, name) is not None and bound is None:
            _check_none_open(name, open_children)


def check_new_time(given: Limits, open_children: int) -> None:
    """Refuse to bound the time of runs at work that can't be told of it.

    Raises:
        InvalidInputError: Not retryable.
    """
    if given.wall_clock is not None:
        _check_none_open("wall_clock", open_children)


def _check_none_open(name: str, open_children: int) -> None:
    if open_children:
        raise InvalidInputError(
            f"{name} can't be set while {open_children} runs below this one are at work, which were started "
            "without it: set it when they are over, or at the start of the run."
        )


def bounded(taken: Amount, budget: Budget) -> dict[str, tuple[Any, Any]]:
    """Return what is taken of each limit that is reserved, and its bound, by the limit's name."""
    return {
        "max_total_tokens": (taken.tokens, budget.tokens),
        "max_cost_usd": (taken.cost_usd, budget.cost_usd),
        "max_model_calls": (taken.model_calls, budget.model_calls),
        "max_tool_calls": (taken.tool_calls, budget.tool_calls),
    }


def check_not_below(given: Limits, name: str, used: Any, what: str = "spent already") -> None:
    """Refuse a limit that is exceeded already.

    Raises:
        InvalidInputError: Not retryable.
    """
    limit = getattr(given, name)
    if limit is not None and limit < used:
        raise InvalidInputError(f"{name}={_shown(limit)} is below what is {what}: {_shown(used)}.")


def _shown(value: Any) -> str:
    if isinstance(value, timedelta):
        return f"{value.total_seconds():.0f} s"
    return f"{value:f}" if isinstance(value, Decimal) else str(value)
