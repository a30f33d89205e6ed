"""Values as people read them."""

import json
import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, cast

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def clean(text: str) -> str:
    """Return a text without the characters that a terminal obeys."""
    return _CONTROL.sub("", text)


def one_line(text: str, limit: int = 160) -> str:
    """Return the start of a text, on one line."""
    flat = " ".join(clean(text[: 4 * limit]).split())
    return flat if len(flat) <= limit and len(text) <= 4 * limit else flat[: limit - 1] + "…"


def size(number: int) -> str:
    """Return a number of bytes with its unit."""
    if number < 1000:
        return f"{number} B"
    return f"{number / 1e3:.1f} kB" if number < 1e6 else f"{number / 1e6:.1f} MB"


def duration(time: timedelta) -> str:
    """Return a time to its two leading units."""
    seconds = max(time.total_seconds(), 0)
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(int(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours} h {minutes} min"
    return f"{hours // 24} d {hours % 24} h"


def fine(time: timedelta) -> str:
    """Return a time as `duration` does, and below a second in milliseconds."""
    seconds = max(time.total_seconds(), 0)
    return f"{seconds * 1000:.0f} ms" if seconds < 0.9995 else duration(time)


def ago(at: datetime) -> str:
    """Return how long ago a time was, to its leading unit."""
    seconds = (datetime.now(UTC) - at).total_seconds()
    if seconds < 5:
        return "just now"
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds // length:.0f} {unit} ago"
    return f"{seconds:.0f} s ago"


def stamp(at: datetime) -> str:
    """Return a time to the second, in UTC."""
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def cost(usd: Decimal | None) -> str:
    """Return a cost; unknown is not free."""
    return "unknown" if usd is None else f"${usd:.4f}"


def plural(number: int, noun: str) -> str:
    """Return `1 turn`, `2 turns`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def call(name: str, arguments: str, limit: int = 160) -> str:
    """Return a tool call as Python would write it."""
    try:
        values: Any = json.loads(arguments or "{}")
    except ValueError:
        values = arguments
    if isinstance(values, dict):
        named = cast("dict[str, Any]", values)
        inside = ", ".join(f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in named.items())
    else:
        inside = str(values)
    return f"{name}({one_line(inside, limit)})"
