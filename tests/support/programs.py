"""Programs that tests need and pip doesn't bring: where they are, and which of Debian's packages has them.

`python3 -m tests.support.programs` prints the packages that are missing here; it needs the standard library alone.
"""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import pytest

_PACKAGES: Final = {
    "chromium": "chromium",
    "node": "nodejs",
    "npm": "npm",
    "prometheus": "prometheus",
    "promtool": "prometheus",
    "initdb": "postgresql",
    "pg_isready": "postgresql",
    "postgres": "postgresql",
    "psql": "postgresql",
}


def find(name: str) -> str | None:
    """Return where a program is; CHROMIUM names another browser."""
    if name == "chromium":
        return os.environ.get("CHROMIUM") or shutil.which(name) or shutil.which("chromium-browser")
    return shutil.which(name, path=os.pathsep.join(_folders()))


def needs(*names: str) -> "pytest.MarkDecorator":
    """Return the mark of tests that are skipped where one of these programs is missing."""
    import pytest

    packages = _missing(*names)
    reason = f"needs {', '.join(names)}: apt-get install {' '.join(packages)}"
    return pytest.mark.skipif(bool(packages), reason=reason)


def _missing(*names: str) -> list[str]:
    return sorted({_PACKAGES[name] for name in names if find(name) is None})


def _folders() -> Iterator[str]:
    yield os.environ.get("PATH", os.defpath)
    for folder in sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True):
        yield str(folder)  # Debian keeps the server's programs off the PATH


if __name__ == "__main__":
    print(" ".join(_missing(*_PACKAGES)))
