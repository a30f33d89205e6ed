"""The reference servers of MCP's authors, from the npm registry, installed once for this machine.

`python3 -m tests.support.npm_servers` installs them; it needs the standard library, node and npm alone.
"""

import subprocess
import sys
from pathlib import Path
from typing import Final

PACKAGES: Final = ("@modelcontextprotocol/server-everything", "@modelcontextprotocol/server-filesystem")
_FOLDER: Final = Path.home() / ".cache" / "perdure-tests" / "npm"
MODULES: Final = _FOLDER / "node_modules"


def install() -> str:
    """Install them where they aren't yet, and return what went wrong."""
    if all((MODULES / package).is_dir() for package in PACKAGES):
        return ""
    _FOLDER.mkdir(parents=True, exist_ok=True)
    command = ["npm", "install", "--no-audit", "--no-fund", "--prefix", str(_FOLDER), *PACKAGES]
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return ended.stderr.strip()[-200:] if ended.returncode else ""


if __name__ == "__main__":
    sys.exit(install() or 0)
