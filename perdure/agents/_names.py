"""Rules for names. Both sides."""

import re

from perdure.errors import InvalidNameError

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")
_RESERVED = frozenset(
    {"final_output", "auto", "AgentWorkflow", "MapWorkflow", "MapNode", "PlanWorkflow", "Scoreboard"}
)


def is_name(name: str) -> bool:
    """Say whether every vendor, Temporal and a shell can live with `name`."""
    return _NAME.fullmatch(name) is not None


def check_name(what: str, name: str) -> None:
    """Raise InvalidNameError unless every vendor, Temporal and a shell can live with `name`."""
    if not is_name(name):
        raise InvalidNameError(
            f"{what} name {name!r} can't be used: start with a letter, then up to 63 letters, digits, _ or -."
        )
    if name in _RESERVED or name.lower().startswith("perdure"):
        raise InvalidNameError(f"{what} name {name!r} is reserved by perdure: choose another.")
