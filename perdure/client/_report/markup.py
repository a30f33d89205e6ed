"""Text that becomes HTML. Client side; pure.

What a report shows was written by models, tools and users: all of it passes `escaped`, and nothing else is let in.
"""

import re
from datetime import timedelta
from decimal import Decimal
from html import escape

_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
_MOST_CHARS = 20_000


def escaped(text: object) -> str:
    """Return a text as HTML shows it; characters that HTML doesn't have are left out."""
    return escape(_CONTROL.sub("", str(text)), quote=True)


def shortened(text: str) -> str:
    """Return a text as HTML, its start where it is long, with how much is left out."""
    left = len(text) - _MOST_CHARS
    if left <= 0:
        return escaped(text)
    note = f'<span class="note">… {left:,} more characters: <code>perdure transcript</code> has all</span>'
    return f"{escaped(text[:_MOST_CHARS])}{note}"


def element(tag: str, content: str, **attributes: object) -> str:
    """Return an element with this HTML in it; attributes are escaped, `_` in their names is `-`."""
    written = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{escaped(value)}"'
        for name, value in attributes.items()
        if value is not None
    )
    return f"<{tag}{written}>{content}</{tag}>"


def money(usd: Decimal | None) -> str:
    """Return a cost; unknown is not free."""
    return "unknown" if usd is None else f"${usd:.4f}"


def took(time: timedelta) -> str:
    """Return a time to its two leading units."""
    seconds = max(time.total_seconds(), 0)
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(int(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 24 else f"{hours // 24} d {hours % 24} h"


def word(name: str) -> str:
    """Return an outcome, state or kind in words."""
    return {"ok": "completed", "error": "an error", "cut": "cut off"}.get(name, name.replace("_", " "))


def tone(outcome: str, *, has_problem: bool = False) -> str:
    """Return the class that gives an outcome its colour."""
    if has_problem or outcome in ("unknown", "denied", "canceled", "cancelled", "cut", "skipped"):
        return "warn"
    if outcome in ("open", "running", "waiting"):
        return "open"
    return "good" if outcome in ("ok", "completed", "done") else "bad"
