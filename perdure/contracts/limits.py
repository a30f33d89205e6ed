"""Limits of a run, and the settings of its model calls. Both sides; also what users write."""

from datetime import timedelta
from decimal import Decimal
from typing import Annotated, Literal

from pydantic import AliasChoices, Field, JsonValue

from perdure.contracts._base import Contract

OnLimit = Literal["finish", "ask", "fail"]
CacheScope = Literal["run", "shared"]
_Count = Annotated[int, Field(ge=1, le=1_000_000)]


class Limits(Contract):
    """Bounds of one run; `SHARED_LIMITS` hold for it and all below it together.

    A limit that is None is taken from the agent, then from `DEFAULT_LIMITS`.
    """

    max_turns: _Count | None = None
    """Model calls that the conversation may take, re-asks included."""
    max_model_calls: _Count | None = None
    """Model calls of the run and of all below it, the last one of `on_limit="finish"` included."""
    max_tool_calls: _Count | None = None
    """Tool calls that models asked for, of the run and of all below it."""
    max_total_tokens: Annotated[int, Field(ge=1, le=1_000_000_000_000)] | None = None
    """Input and output tokens of all model calls together."""
    max_cost_usd: Annotated[Decimal, Field(gt=0, le=1_000_000_000)] | None = None
    """US dollars of all model calls together, at the prices that the run is pinned to."""
    allow_unknown_prices: bool | None = None
    """Start although `max_cost_usd` is set and a model's price is unknown: calls of that model count as nothing
    towards `max_cost_usd`, so that `max_total_tokens` should be set too."""
    wall_clock: timedelta | None = Field(
        default=None,
        gt=timedelta(0),
        serialization_alias="wall_clock_seconds",
        validation_alias=AliasChoices("wall_clock_seconds", "wall_clock"),
    )
    """Time from the run's start, waits included, for the run and all below it. Calls and waits end with it."""
    max_parallel_tool_calls: Annotated[int, Field(ge=1, le=100)] | None = None
    """Tool calls of one turn in flight at once."""
    max_consecutive_errors: _Count | None = None
    """Turns in a row in which no tool call succeeded, or no reply could be used."""
    max_repeats: Annotated[int, Field(ge=2, le=1000)] | None = None
    """Calls of one tool with the same arguments and the same result; then the model is told, and at twice as
    many the run fails."""
    max_rejections: Annotated[int, Field(ge=0, le=100)] | None = None
    """Answers that a verifier may send back."""
    max_depth: Annotated[int, Field(ge=0, le=20)] | None = None
    """Levels of subagents below the run."""
    max_handoffs: Annotated[int, Field(ge=0, le=1000)] | None = None

    def over(self, base: "Limits") -> "Limits":
        """Return these limits, with those that are None taken from `base`."""
        mine = {name: value for name in Limits.model_fields if (value := getattr(self, name)) is not None}
        return base.model_copy(update=mine) if mine else base


SHARED_LIMITS = (
    "max_cost_usd",
    "max_total_tokens",
    "max_model_calls",
    "max_tool_calls",
    "wall_clock",
    "allow_unknown_prices",
)
"""Those that a run shares with all below it, and that a plan, a map or a workflow of the user's own can have."""

DEFAULT_LIMITS = Limits(
    max_turns=50,
    max_parallel_tool_calls=8,
    max_consecutive_errors=5,
    max_repeats=5,
    max_rejections=3,
    max_depth=5,
    max_handoffs=10,
)
"""What holds where neither run nor agent says otherwise: enough for real work, an end for a runaway."""


class ModelSettings(Contract):
    """How a model is called. What is None is left to the vendor, or to perdure's default."""

    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    max_output_tokens: Annotated[int, Field(ge=1)] | None = None
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high"] | None = None
    parallel_tool_calls: bool | None = None
    stream: bool = True
    """Ask for a stream where the vendor can, so that progress shows and a stall is noticed early."""
    output_mode: Literal["auto", "native", "tool"] = "auto"
    """How a structured output is asked for: the vendor's JSON schema mode, or a tool to call at the end."""
    timeout: timedelta = Field(
        default=timedelta(minutes=10),
        gt=timedelta(0),
        serialization_alias="timeout_seconds",
        validation_alias=AliasChoices("timeout_seconds", "timeout"),
    )
    """Time for one attempt of one call."""
    stall_timeout: timedelta = Field(
        default=timedelta(seconds=60),
        gt=timedelta(0),
        serialization_alias="stall_timeout_seconds",
        validation_alias=AliasChoices("stall_timeout_seconds", "stall_timeout"),
    )
    """Time without a byte from the vendor after which an attempt is given up."""
    max_attempts: Annotated[int, Field(ge=1, le=100)] = 6
    """Attempts that reach the vendor; waiting out a rate limit is not one."""
    max_wait: timedelta = Field(
        default=timedelta(hours=1),
        gt=timedelta(0),
        serialization_alias="max_wait_seconds",
        validation_alias=AliasChoices("max_wait_seconds", "max_wait"),
    )
    """Time for all attempts of one call together, rate limits waited out included."""
    cache: CacheScope | None = None
    """`shared`: an identical call of another run answers; needs a temperature of 0."""
    cache_ttl: timedelta = Field(
        default=timedelta(days=1),
        gt=timedelta(0),
        serialization_alias="cache_ttl_seconds",
        validation_alias=AliasChoices("cache_ttl_seconds", "cache_ttl"),
    )
    """How old a shared reply may be."""
    extra: dict[str, JsonValue] | None = None
    """Fields added to the vendor's request body as they are."""
