"""Activity side; owns what is known of Claude models by their names: how to ask for thinking. No I/O."""

import re
from dataclasses import dataclass, field

from perdure.contracts.limits import ModelSettings
from perdure.providers._wire import Json

DEFAULT_MAX_TOKENS = 8192
"""The API demands a limit; every current model allows this one."""

_MIN_BUDGET_TOKENS = 1024
_BUDGET_TOKENS = {"minimal": 1024, "low": 1024, "medium": 4096, "high": 16384}
_EFFORT = {"minimal": "low", "low": "low", "medium": "medium", "high": "high"}
_VERSION = re.compile(r"claude-(?:[a-z]+-)?(\d{1,2})(?:[-.](\d{1,2})(?!\d))?(?:-[a-z]+)?", re.IGNORECASE)

_ADAPTIVE_SINCE = (4, 6)
"""From here on the model decides how much to think; a budget of tokens is refused since 4.7."""
_NO_SAMPLING_SINCE = (4, 7)
"""From here on `temperature` and `top_p` are refused."""

_NO_FORCING_SINCE = (5, 1)
"""From here on a `tool_choice` that forces a tool is refused, since thinking is always on."""


@dataclass(frozen=True, slots=True)
class Thinking:
    """How one call thinks, and what follows from that for its other fields."""

    max_tokens: int
    fields: Json = field(default_factory=dict[str, object])
    effort: str | None = None


def version_of(model: str) -> tuple[int, int]:
    """Return the version in a model's name, as (4, 6) of `claude-opus-4-6`; (0, 0) if there is none."""
    match = _VERSION.search(model)
    return (int(match[1]), int(match[2] or 0)) if match else (0, 0)


def takes_forced_tool(model: str) -> bool:
    """Return whether the model lets a request force a tool."""
    return version_of(model) < _NO_FORCING_SINCE


def plan_thinking(
    model: str, effort: str | None, *, limit: int | None, is_forced: bool, is_midway: bool
) -> Thinking:
    """Return what to send for a wanted effort.

    Args:
        model: The vendor's name of it.
        effort: `ModelSettings.reasoning_effort`.
        limit: The most tokens of output, thinking included; None for the default.
        is_forced: A tool must be called; the API then refuses thinking.
        is_midway: The turn began without thinking; the API then refuses to begin with a budget.
    """
    if effort is None or effort == "none":
        return Thinking(limit or DEFAULT_MAX_TOKENS)
    budget = _BUDGET_TOKENS[effort]
    max_tokens = limit or DEFAULT_MAX_TOKENS + budget
    if version_of(model) >= _ADAPTIVE_SINCE:
        fields: Json = {} if is_forced else {"thinking": {"type": "adaptive"}}
        return Thinking(max_tokens, fields, _EFFORT[effort])
    if limit is not None:
        # Leave as much to the answer as to the thought.
        budget = min(budget, limit // 2)
    if is_forced or is_midway or budget < _MIN_BUDGET_TOKENS:
        return Thinking(max_tokens)
    return Thinking(max_tokens, {"thinking": {"type": "enabled", "budget_tokens": budget}})


def sampling(model: str, settings: ModelSettings, *, is_thinking: bool) -> Json:
    """Return the sampling fields that the model takes: at most one, and none while it thinks."""
    if is_thinking or version_of(model) >= _NO_SAMPLING_SINCE:
        return {}
    if settings.temperature is not None:
        return {"temperature": min(settings.temperature, 1.0)}
    return {} if settings.top_p is None else {"top_p": settings.top_p}
