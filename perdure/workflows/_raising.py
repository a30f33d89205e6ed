"""Whether limits of an open run can be set: nothing below what is spent already. Workflow side; pure."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

from perdure.contracts.budget import amount_of
from perdure.contracts.limits import Limits
from perdure.errors import InvalidInputError
from perdure.workflows.loop import AgentLoop


def check_new_limits(given: Limits, loop: AgentLoop, elapsed: timedelta) -> None:
    """Refuse limits that an open run can't keep any more.

    Raises:
        InvalidInputError: Nothing is given, or it is below what is spent. Not retryable.
    """
    if given == Limits():
        raise InvalidInputError("No limit is given: write NAME=VALUE, such as max_cost_usd=5.")
    for name, used in _used(loop, elapsed).items():
        limit = getattr(given, name)
        if limit is not None and limit < used:
            raise InvalidInputError(f"{name}={_shown(limit)} is below what is spent already: {_shown(used)}.")
    if given.max_cost_usd is not None:
        _check_prices(given, loop)


def _used(loop: AgentLoop, elapsed: timedelta) -> dict[str, Any]:
    counters = loop.counters
    taken = amount_of(counters.usage)
    if loop.meter is not None:
        taken = loop.meter.purse.taken
    return {
        "max_turns": counters.turns - loop.answered_turns,
        "max_model_calls": counters.model_calls,
        "max_tool_calls": counters.tool_calls,
        "max_handoffs": len(counters.handoffs),
        "max_rejections": counters.rejections,
        "max_total_tokens": taken.tokens,
        "max_cost_usd": taken.cost_usd,
        "wall_clock": elapsed,
    }


def _check_prices(given: Limits, loop: AgentLoop) -> None:
    unknown = [model.name for model in loop.spec.models if model.price is None]
    if unknown and not given.over(loop.limits).allow_unknown_prices:
        raise InvalidInputError(
            f"The price of {', '.join(unknown)} is not known: max_cost_usd can't hold. Set max_total_tokens."
        )


def _shown(value: Any) -> str:
    if isinstance(value, timedelta):
        return f"{value.total_seconds():.0f} s"
    return f"{value:f}" if isinstance(value, Decimal) else str(value)
