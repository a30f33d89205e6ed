"""What the loop decides, as pure functions of what it knows. Workflow side; no Temporal calls."""

import json
from collections.abc import Sequence
from datetime import timedelta
from decimal import Decimal
from functools import lru_cache
from typing import Any

from perdure.contracts.calls import CallModelRequest, CallModelResult
from perdure.contracts.limits import Limits
from perdure.contracts.messages import Message, ToolCallPart, tool_message, user_message
from perdure.contracts.run import Counters
from perdure.contracts.spec import FINAL_OUTPUT_TOOL, AgentSpec
from perdure.contracts.texts import one_line
from perdure.errors import suggest

AUTHOR = "perdure"
_SHORT_CHARS = 1000
_UNKNOWN_COST = Decimal("Infinity")
"""What counts as spent when a vendor did not say what a call used: no limit in dollars holds any more."""


def limit_reached(
    limits: Limits, counters: Counters, elapsed: timedelta, *, turns: int | None = None
) -> str | None:
    """Return the first limit that leaves no room for another turn, as `name=value`.

    Args:
        limits: What holds.
        counters: What the run took.
        elapsed: Since it began.
        turns: Those that `max_turns` is about, where it is not all of them.
    """
    used: dict[str, Any] = {
        "max_turns": counters.turns if turns is None else turns,
        "max_model_calls": counters.model_calls,
        "max_tool_calls": counters.tool_calls,
        "max_total_tokens": counters.usage.total_tokens,
        "max_cost_usd": _UNKNOWN_COST if counters.usage.cost_usd is None else counters.usage.cost_usd,
        "wall_clock": elapsed,
    }
    for name, value in used.items():
        limit = getattr(limits, name)
        if limit is not None and value >= limit:
            return f"{name}={limit}"
    return None


def after_model(counters: Counters, result: CallModelResult) -> Counters:
    """Return the counters after a model call."""
    return counters.model_copy(
        update={
            "turns": counters.turns + 1,
            "model_calls": counters.model_calls + 1,
            "usage": counters.usage + result.usage,
            "unusable": counters.unusable + 1 if result.problem else 0,
            "saved_model_calls": counters.saved_model_calls + (result.saved is not None),
            "saved_usage": counters.saved_usage if result.saved is None else counters.saved_usage + result.saved,
        }
    )


def after_interruption(result: CallModelResult) -> CallModelResult:
    """Return a reply as the loop takes it: one that was stopped is a part, and not judged as a whole."""
    if result.message.stop != "interrupted" or not result.problem:
        return result
    return result.model_copy(update={"problem": ""})


def after_summary(counters: Counters, result: CallModelResult) -> Counters:
    """Return the counters after a model call that is no turn."""
    return counters.model_copy(
        update={"model_calls": counters.model_calls + 1, "usage": counters.usage + result.usage}
    )


def after_tools(counters: Counters, results: Sequence[Message], *, saved: int = 0) -> Counters:
    """Return the counters after the tool calls of a turn."""
    is_failing = not any(is_ok(message) for message in results)
    return counters.model_copy(
        update={
            "failing_turns": counters.failing_turns + 1 if is_failing else 0,
            "saved_tool_calls": counters.saved_tool_calls + saved,
        }
    )


def is_ok(message: Message) -> bool:
    """Say whether a tool's message is a success."""
    return all(getattr(part, "outcome", "ok") == "ok" for part in message.parts)


def objection(spec: AgentSpec, call: ToolCallPart) -> Message | None:
    """Return the answer to a call that is not made at all; None for one that is."""
    tool = spec.tool(call.name)
    if tool is None:
        names = [each.name for each in spec.tools]
        return tool_message(
            call, f"There is no tool {call.name[:100]!r}.{suggest(call.name, names)}", outcome="error"
        )
    if tool.approval is not None and tool.approval.decision == "deny":
        return tool_message(call, f"Not run: a rule forbids calls of {tool.name}.", outcome="denied")
    if tool.needs_approval and tool.approval is None:  # pinned when nobody could be asked
        return tool_message(
            call,
            "Not run: this tool needs a person's approval, and nobody can be asked here.",
            outcome="denied",
        )
    return None


def reask(message: Message, problem: str) -> tuple[Message, ...]:
    """Return what the model is told of a reply that can't be used.

    A vendor insists on an answer to every tool call, so each call of the reply gets one.
    """
    if not message.tool_calls:
        return (user_message(problem, author=AUTHOR),)
    return tuple(
        tool_message(
            call,
            problem if call.name == FINAL_OUTPUT_TOOL else "Not run: the answer was given.",
            outcome="error",
        )
        for call in message.tool_calls
    )


def last_call(limit: str) -> Message:
    """Return the message that asks for an answer without further work."""
    return user_message(
        f"The limit {limit} is reached. Call no more tools; answer now with what you have.", author=AUTHOR
    )


def call_summary(call: ToolCallPart) -> str:
    """Return a call as a person would write it, on one short line."""
    summary = _known_summary if len(call.arguments) <= _SHORT_CHARS else _summary
    return summary(call.name, call.arguments)


def _summary(name: str, arguments: str) -> str:
    try:
        given = json.loads(arguments or "{}")
        shown = ", ".join(f"{key}={json.dumps(value)}" for key, value in given.items())
    except (ValueError, AttributeError, RecursionError):
        shown = arguments
    return one_line(f"{name}({shown})")


_known_summary = lru_cache(maxsize=256)(_summary)
"""A turn wants it twice: for the run's details, and for the activity."""


def model_summary(turn: int, spec: AgentSpec, request: CallModelRequest) -> str:
    """Return what the web UI says of a model call: with it, answers from other calls' results are recorded."""
    saved = sum(new.same_as is not None for new in request.new)
    words = [
        f"turn {turn}" if request.summary is None else "make room: summarise",
        spec.models[request.model].name,
    ]
    if spec.settings.cache == "shared":
        words.append("shared")
    if saved:
        words.append(f"{saved} tool call{'s' if saved > 1 else ''} saved")
    return " · ".join(words)


def repetition_note(tool: str, count: int) -> Message:
    """Return what the model is told when it goes in circles."""
    return user_message(
        f"{tool} was called {count} times with the same arguments, and gave the same result each time. "
        "Do something else, or answer with what you have.",
        author=AUTHOR,
    )


def rejection(message: Message, reason: str) -> tuple[Message, ...]:
    """Return what the model is told when a verifier did not accept its answer."""
    return reask(message, f"The answer was not accepted: {reason} Give a better one.")


def handoff_answers(calls: Sequence[ToolCallPart], chosen: int, outcome: str) -> tuple[Message, ...]:
    """Return the answers to the calls of a reply that hands the conversation over: no other call is made."""
    return tuple(
        tool_message(call, outcome if index == chosen else "Not run: the conversation was handed over.")
        for index, call in enumerate(calls)
    )
