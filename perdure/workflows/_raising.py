"""Whether limits of an open run can be set: nothing below what is spent already. Workflow side; pure."""

from datetime import timedelta
from typing import Any

from perdure.contracts.budget import Budget
from perdure.contracts.limits import Limits
from perdure.errors import InvalidInputError
from perdure.workflows._allowance import budget_under
from perdure.workflows._bounds import bounded, check_amounts, check_new_bound, check_new_time, check_not_below
from perdure.workflows._host import current_host
from perdure.workflows.loop import AgentLoop


def check_new_limits(given: Limits, loop: AgentLoop, elapsed: timedelta) -> None:
    """Refuse limits that an open run can't keep any more.

    Raises:
        InvalidInputError: Nothing is given, or it is below what is spent, or it would not help. Not retryable.
    """
    if given == Limits():
        raise InvalidInputError("No limit is given: write NAME=VALUE, such as max_cost_usd=5.")
    for name, used in _counted(loop, elapsed).items():
        check_not_below(given, name, used)
    open_children = current_host().funds.open_children
    meter = loop.allowance.meter
    if meter is None:
        _check_uncounted(given, loop)
        check_new_bound(given, Budget(), open_children)
        check_new_time(given, open_children)
    else:
        check_amounts(given, meter.account, open_children=open_children)
    if given.max_cost_usd is not None:
        _check_prices(given, loop)


def _check_uncounted(given: Limits, loop: AgentLoop) -> None:
    """Refuse to bound less than the run and closed ones below it took, and what nobody knows."""
    uncounted, budget = loop.allowance.uncounted, budget_under(loop.spec, given)
    for name, (used, _) in bounded(loop.counters.taken + uncounted.taken, budget).items():
        check_not_below(budget.as_limits(), name, used)
    if uncounted.unknown and budget.is_bound:
        raise InvalidInputError(
            f"{uncounted.unknown} runs below this one ended without telling what they took, so that a limit could "
            "not hold for all: set max_turns, or cancel the run and go on from it with `perdure rerun --limit`."
        )


def _counted(loop: AgentLoop, elapsed: timedelta) -> dict[str, Any]:
    counters = loop.counters
    return {
        "max_turns": counters.turns - loop.answered_turns,
        "max_model_calls": counters.model_calls,
        "max_tool_calls": counters.tool_calls,
        "max_handoffs": len(counters.handoffs),
        "max_rejections": counters.rejections,
        "wall_clock": elapsed,
    }


def _check_prices(given: Limits, loop: AgentLoop) -> None:
    unknown = loop.spec.unpriced_models
    if unknown and not given.over(loop.limits).allow_unknown_prices:
        raise InvalidInputError(
            f"The price of {', '.join(unknown)} is not known: max_cost_usd can't hold. Set max_total_tokens."
        )
