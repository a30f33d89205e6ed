"""Files below one folder: which there are, and their text. Knows nothing of agents."""

import os
from collections.abc import Iterator
from pathlib import Path

MAX_FILE_BYTES = 1_000_000
"""Larger files are refused: nobody reads a megabyte in one go."""

SKIPPED_FOLDERS = frozenset(("__pycache__", "build", "dist", "env", "node_modules", "site-packages", "venv"))
"""Folders of generated or downloaded files; hidden folders are skipped as well."""


class RefusedError(Exception):
    """A path that is not read; the text says why."""


def resolve(root: Path, path: str) -> Path:
    """Return where `path` leads, if that is inside of `root`.

    Args:
        root: The folder to stay in, already resolved.
        path: A path relative to it.

    Raises:
        RefusedError: The path is absolute, holds `..` or a NUL, or a link leads out.
    """
    if "\0" in path:
        raise RefusedError("The path holds a NUL character.")
    given = Path(path)
    if given.is_absolute() or given.drive or ".." in given.parts:
        raise RefusedError(f"{path!r} is refused: give a path relative to the root, without '..'.")
    try:
        found = (root / given).resolve()
    except (OSError, RuntimeError) as error:
        raise RefusedError(f"{path!r} can't be resolved: {type(error).__name__}.") from None
    if not found.is_relative_to(root):
        raise RefusedError(f"{path!r} is refused: it leads out of the root.")
    return found


def walk(root: Path, folder: Path) -> Iterator[Path]:
    """Yield the files below `folder` in order of their paths; links that lead out of `root` are left out."""
    for current, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not is_skipped(Path(current, name)))
        for name in sorted(names):
            path = Path(current, name)
            if not name.startswith(".") and os.path.isfile(path) and path.resolve().is_relative_to(root):
                yield path


def is_skipped(folder: Path) -> bool:
    """Say whether a folder is hidden, a virtual environment, or full of generated files."""
    return folder.name.startswith(".") or folder.name in SKIPPED_FOLDERS or os.path.exists(folder / "pyvenv.cfg")


def read_lines(path: Path, shown: str) -> list[str]:
    """Return the lines of a text file, numbered as an editor would.

    Args:
        path: The file.
        shown: What to call it in an error.

    Raises:
        RefusedError: It is missing, no file, too large, or not text.
    """
    if not os.path.isfile(path):
        raise RefusedError(f"There is no file {shown!r}: list the files to see which there are.")
    try:
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            raise RefusedError(f"{shown!r} is too large: {size} bytes, and {MAX_FILE_BYTES} are allowed.")
        data = path.read_bytes()
    except OSError as error:
        raise RefusedError(f"{shown!r} can't be read: {error.strerror}.") from None
    if b"\0" in data[:8192]:
        raise RefusedError(f"{shown!r} is a binary file: only text can be read.")
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise RefusedError(f"{shown!r} is not UTF-8 text.") from None
    return [line.rstrip("\r") for line in text.removesuffix("\n").split("\n")] if text else []
