"""`memory_tools`: what agents remember beyond one run. Both sides declare them; only activities run them."""

from datetime import timedelta
from functools import cache
from typing import Any

from perdure.agents.context import MemoryUnavailable, ToolContext
from perdure.agents.tool import Tool, tool
from perdure.contracts.memory import (
    DEFAULT_MAX_BYTES,
    LARGEST_MAX_BYTES,
    MAX_KEY_CHARS,
    MAX_TEXT_BYTES,
)
from perdure.errors import InvalidToolError, ToolRetry

_YEAR = timedelta(days=365)
_TIMEOUT = timedelta(seconds=15)
_SMALLEST = 2 * MAX_TEXT_BYTES


def memory_tools(
    *, ttl: timedelta | None = _YEAR, max_bytes: int = DEFAULT_MAX_BYTES, limit: int = 5
) -> tuple[Tool, Tool]:
    """Return the tools `remember` and `recall`, for `Agent(tools=[…])`.

    They remember for the user that the run's context names (`context={"user": …}`), else for its tenant.

    Args:
        ttl: How long an entry is kept; for ever when None.
        max_bytes: How much is kept of one user. What was neither written nor recalled for the longest makes room.
        limit: How many entries a call of `recall` returns at most.

    Raises:
        InvalidToolError: An option is out of range. Not retryable.
    """
    if ttl is not None and ttl <= timedelta(0):
        raise InvalidToolError("memory_tools: ttl must be positive.")
    if not _SMALLEST <= max_bytes <= LARGEST_MAX_BYTES:
        raise InvalidToolError(f"memory_tools: max_bytes is from {_SMALLEST} to {LARGEST_MAX_BYTES}.")
    if not 1 <= limit <= 50:
        raise InvalidToolError("memory_tools: limit is from 1 to 50.")
    return _make(ttl, max_bytes, limit)


@cache  # the same tools for all agents of an app
def _make(ttl: timedelta | None, max_bytes: int, limit: int) -> tuple[Tool, Tool]:
    @tool(idempotent=True, timeout=_TIMEOUT, max_attempts=1)
    async def remember(text: str, ctx: ToolContext, key: str | None = None) -> str:  # noqa: D417 - no model sees ctx
        """Remember something about the user for later conversations.

        Args:
            text: What to remember, in a sentence or two that can be understood alone.
            key: What it is about, such as "home town": it replaces what was remembered under the same key.
        """
        if not text.strip():
            raise ToolRetry("There is nothing to remember: text is empty.")
        if len(text.encode(errors="replace")) > MAX_TEXT_BYTES:
            raise ToolRetry(f"text is longer than {MAX_TEXT_BYTES} bytes: remember less, or in several pieces.")
        if key is not None and not 1 <= len(key) <= MAX_KEY_CHARS:
            raise ToolRetry(f"key is a name of 1 to {MAX_KEY_CHARS} characters.")
        try:
            return f"Remembered as {await ctx.memory.remember(text, key=key, ttl=ttl, max_bytes=max_bytes)!r}."
        except MemoryUnavailable as error:
            return f"Not remembered: {error}. Go on without it."

    @tool(idempotent=True, timeout=_TIMEOUT, max_attempts=1)
    async def recall(query: str, ctx: ToolContext) -> Any:  # noqa: D417 - no model sees ctx
        """Find what was remembered about the user in earlier conversations.

        Args:
            query: Words that what you look for should contain; empty for what was used last.
        """
        try:
            found = await ctx.memory.recall(query, limit=limit)
        except MemoryUnavailable as error:
            return f"Memory can't be reached: {error}. Go on without it."
        if not found:
            return "Nothing is remembered about that."
        return [{"key": each.key, "text": each.text, "remembered": f"{each.at:%Y-%m-%d}"} for each in found]

    return remember, recall
