"""Activity side; owns what vendors say about their rate limits in headers. No I/O, no clock.

OpenAI writes `x-ratelimit-remaining-tokens` and resets as `6m0s`, Anthropic `anthropic-ratelimit-tokens-remaining`
and resets as a time; others have the fields without a dimension, and resets as seconds or a Unix time.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final, Literal

Dimension = Literal["requests", "tokens", "input-tokens", "output-tokens"]
DIMENSIONS: Final[tuple[Dimension, ...]] = ("requests", "tokens", "input-tokens", "output-tokens")

_MARK: Final = b"ratelimit-"
_PIECE = re.compile(r"(\d+(?:\.\d+)?)(ms|us|µs|s|m|h|d)")
_UNITS: Final = {"us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_EPOCH: Final = 1e9
"""Numbers above are Unix times, above a thousand times that in milliseconds."""


@dataclass(frozen=True, slots=True)
class Quota:
    """One limit as the vendor sees it just now, over all who use the key."""

    limit: float
    remaining: float
    reset_seconds: float | None = None
    """Until all of `limit` is there again."""


def read_quotas(headers: Iterable[tuple[bytes, bytes]]) -> dict[Dimension, Quota]:
    """Return the limits that an answer's headers tell; most answers tell none, so that this is quick."""
    found: dict[Dimension, dict[str, str]] = {}
    date = b""
    for name, value in headers:
        lower = name.lower()
        if _MARK in lower:
            _read(lower.decode("latin-1"), value.decode("latin-1").strip(), found)
        elif lower == b"date":
            date = value
    if not found:
        return {}
    clock = date.decode("latin-1")
    return {name: quota for name, fields in found.items() if (quota := _quota(fields, clock)) is not None}


def _read(name: str, value: str, found: dict[Dimension, dict[str, str]]) -> None:
    rest = name.partition("ratelimit-")[2]
    for field in ("limit", "remaining", "reset"):
        for dimension in DIMENSIONS:
            if rest in (f"{field}-{dimension}", f"{dimension}-{field}"):
                found.setdefault(dimension, {})[field] = value
        if rest == field:
            found.setdefault("requests", {}).setdefault(field, value)


def _quota(fields: dict[str, str], date: str) -> Quota | None:
    try:
        limit, remaining = float(fields["limit"]), float(fields["remaining"])
    except (KeyError, ValueError):
        return None
    if not (0 < limit < float("inf") and 0 <= remaining < float("inf")):
        return None
    reset = read_reset(fields.get("reset", ""), date)
    return Quota(limit, min(remaining, limit), reset)


def read_reset(text: str, date: str = "") -> float | None:
    """Return the seconds until a reset, 0 or more, or None; `date` is the vendor's clock, where it tells it."""
    pieces = _PIECE.findall(text)
    if pieces and "".join(number + unit for number, unit in pieces) == text:
        return sum(float(number) * _UNITS[unit] for number, unit in pieces)
    try:
        number = float(text)
    except ValueError:
        return _until(text, date)
    if not 0 <= number < float("inf"):
        return None
    if number < _EPOCH:
        return number
    seconds = number / 1000 if number > _EPOCH * 1000 else number
    return max(0.0, seconds - _vendor_now(date).timestamp())


def _until(text: str, date: str) -> float | None:
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        return None
    when = when if when.tzinfo else when.replace(tzinfo=UTC)
    return max(0.0, (when - _vendor_now(date)).total_seconds())


def _vendor_now(date: str) -> datetime:
    """Return the time by the vendor's own clock, which wrote the reset, else by ours."""
    try:
        when = parsedate_to_datetime(date)
    except ValueError:
        return datetime.now(UTC)
    return when if when.tzinfo else when.replace(tzinfo=UTC)
