"""Secrets of the environment: `NAME`, or the file that `NAME_FILE` names, as containers mount them. Wiring side.

They are read at each use, so that one that was replaced counts from then on, and kept nowhere.
"""

import os
from collections.abc import Mapping
from pathlib import Path

_MAX_BYTES = 64 * 1024


def read_secret(name: str, environ: Mapping[str, str] = os.environ) -> str:
    """Return the secret `NAME`, stripped; empty when there is none, or its file can't be read."""
    value = environ.get(name, "").strip()
    if value:
        return value
    path = environ.get(f"{name}_FILE", "").strip()
    if not path:
        return ""
    try:
        with Path(path).open(encoding="utf-8") as file:
            return file.read(_MAX_BYTES).strip()
    except (OSError, ValueError):  # the caller says that the secret is missing, by its name
        return ""
