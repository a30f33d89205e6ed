"""What tests assert of an agent's run. Pure."""

import json
from collections.abc import Mapping
from datetime import timedelta
from decimal import Decimal
from typing import Any

from perdure.contracts.messages import ToolCallPart
from perdure.errors import InvalidInputError
from perdure.testing.running import AgentRun, ToolUse


def assert_tool_called(
    run: AgentRun, name: str, arguments: Mapping[str, Any] | None = None, *, times: int | None = None
) -> ToolUse:
    """Assert that a run called a tool, and return the first such call.

    Args:
        run: The run.
        name: The tool.
        arguments: What the call was given, among other things.
        times: Exactly so many such calls; at least one when None, none when 0.

    Raises:
        AssertionError: It didn't; the text lists the calls that there were.
    """
    named = [use for use in run.tool_uses if use.name == name]
    found = [use for use in named if _has(use, arguments or {})]
    if bool(found) if times is None else len(found) == times:
        return found[0] if found else ToolUse(name, "", "", "")
    calls = "".join(f"\n  {use.name}({use.arguments}) -> {use.outcome}" for use in run.tool_uses) or " none"
    given = f" with {dict(arguments)!r}" if arguments else ""
    wanted = "at least once" if times is None else f"{times} times"
    raise AssertionError(
        f"{name!r} should be called{given} {wanted}, and was {len(found)} times. The run's calls:{calls}"
    )


def _has(use: ToolUse, arguments: Mapping[str, Any]) -> bool:
    try:
        given: Any = json.loads(use.arguments)
    except ValueError:
        return False
    return isinstance(given, dict) and arguments.items() <= given.items()


def assert_never_exceeds(
    run: AgentRun,
    *,
    turns: int | None = None,
    tool_calls: int | None = None,
    parallel_tool_calls: int | None = None,
    tokens: int | None = None,
    cost_usd: float | Decimal | None = None,
    time: timedelta | None = None,
) -> None:
    """Assert that at no moment of a run there was more of something; failed runs count too.

    Args:
        run: The run; what is below it isn't counted.
        turns: Model calls of its conversations.
        tool_calls: Tool calls that models asked for.
        parallel_tool_calls: Of one reply.
        tokens: Input and output of all model calls.
        cost_usd: Of all model calls, at the prices that the run was pinned to.
        time: From start to end, by the server's clock, skipped time included.

    Raises:
        AssertionError: There was more; the text says at which turn.
        InvalidInputError: The cost of a call is not known. Not retryable.
    """
    bounds = {"turns": turns, "tool calls": tool_calls, "tokens": tokens, "US dollars": cost_usd}
    spent: dict[str, int | Decimal] = dict.fromkeys(bounds, 0)
    for result in run.recorded.model_results.values():
        calls: tuple[ToolCallPart, ...] = result.message.tool_calls
        spent["turns"] += 1
        spent["tool calls"] += len(calls)
        spent["tokens"] += result.usage.total_tokens
        if cost_usd is not None:
            if result.usage.cost_usd is None:
                raise InvalidInputError(
                    f"The cost of {result.message.model!r} isn't known: set its price in [tool.perdure.prices]."
                )
            spent["US dollars"] += result.usage.cost_usd
        for name, most in bounds.items():
            if most is not None and spent[name] > most:
                raise AssertionError(f"At turn {spent['turns']} the run had {spent[name]} {name}; at most {most}.")
        if parallel_tool_calls is not None and len(calls) > parallel_tool_calls:
            raise AssertionError(
                f"At turn {spent['turns']} the model asked for {len(calls)} tool calls at once; at most "
                f"{parallel_tool_calls}."
            )
    took = _duration(run)
    if time is not None and took > time:
        raise AssertionError(f"The run took {took}; at most {time}.")


def _duration(run: AgentRun) -> timedelta:
    first, last = run.history.events[0].event_time, run.history.events[-1].event_time
    return last.ToDatetime() - first.ToDatetime()
