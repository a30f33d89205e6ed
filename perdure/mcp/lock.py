"""`mcp.lock`: which tools of MCP servers people have accepted, as they were described then. Both sides.

A tool whose digest isn't there is one that nobody has looked at: a new one, or one that says something else now.
The file belongs into version control, so that what was accepted, and by whom, is in the diff.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from perdure.contracts.spec import ToolSpec
from perdure.errors import SettingsError

LOCK_FILE = "mcp.lock"

Accepted = Mapping[str, Mapping[str, str]]
"""Digests by server and by the server's name of the tool."""


def read_lock(folder: Path) -> Accepted:
    """Return what was accepted; nothing where there is no file.

    Raises:
        SettingsError: The file can't be read. Not retryable.
    """
    file = folder / LOCK_FILE
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise SettingsError(f"Can't read {file}: {error}", file=str(file)) from None
    try:
        found: Any = json.loads(text)
        is_good = all(isinstance(d, str) for tools in found.values() for d in tools.values())
    except (ValueError, AttributeError):
        is_good, found = False, {}
    if not is_good:
        raise SettingsError(
            f"{file} is no list of accepted tools: write it anew with `perdure mcp accept NAME`.", file=str(file)
        )
    return cast("Accepted", found)


def write_lock(folder: Path, server: str, digests: Mapping[str, str]) -> None:
    """Accept these tools of a server, in place of those that were.

    Raises:
        SettingsError: The file can't be read or written. Not retryable.
    """
    kept = {**read_lock(folder), server: dict(sorted(digests.items()))}
    file = folder / LOCK_FILE
    try:
        file.write_text(json.dumps(dict(sorted(kept.items())), indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise SettingsError(f"Can't write {file}: {error.strerror}.", file=str(file)) from None


def is_accepted(spec: ToolSpec, accepted: Accepted) -> bool:
    """Say whether a tool is as somebody accepted it; what perdure makes of resources and prompts is its own."""
    source = spec.mcp
    return source is None or not source.digest or accepted.get(source.server, {}).get(source.tool) == source.digest
