"""What the file tools tell of files: lists, lines and hits, each of bounded length and time. Activity side."""

import os
import stat
import time
from collections.abc import Iterator
from fnmatch import fnmatchcase

from perdure.errors import ToolRetry
from perdure.tools._confined import Root, read_in

_MAX_LISTED = 1000
_MAX_HITS = 200
_MAX_HIT_CHARS = 300
_MAX_DEPTH = 40
_MAX_SECONDS = 20.0
_BINARY_PROBE = 8192
_SKIPPED = frozenset({".git", "node_modules", "__pycache__", ".venv"})
"""Folders that aren't looked through unless they are asked for."""


def list_below(root: str, folder: str, pattern: str) -> str:
    """Return the files below a folder, one a line with its size."""
    lines: list[str] = []
    with Root(root) as opened, opened.folder(folder) as start:
        for path, _, status in _walk(start, "", deadline=time.monotonic() + _MAX_SECONDS):
            if not _fits(path, pattern):
                continue
            if len(lines) == _MAX_LISTED:
                lines.append(f"[more than {_MAX_LISTED} files: name a folder or a pattern]")
                break
            shown = _joined(folder, path)
            lines.append(f"{shown} (link)" if status is None else f"{shown} ({status.st_size} bytes)")
    return "\n".join(lines) or f"No files match {pattern!r} below {folder!r}."


def search_below(
    root: str, folder: str, pattern: str, text: str, *, ignore_case: bool, max_file_bytes: int
) -> str:
    """Return the lines that hold a text, as `path:line: text`; files that aren't text are left out."""
    wanted = text.lower() if ignore_case else text
    lines: list[str] = []
    with Root(root) as opened, opened.folder(folder) as start:
        for path, parent, status in _walk(start, "", deadline=time.monotonic() + _MAX_SECONDS):
            if status is None or not _fits(path, pattern):
                continue
            found = _hits(parent, path, wanted, ignore_case=ignore_case, max_file_bytes=max_file_bytes)
            lines.extend(f"{_joined(folder, path)}:{number}: {line}" for number, line in found)
            if len(lines) > _MAX_HITS:
                lines[_MAX_HITS:] = [f"[more than {_MAX_HITS} lines: look for something rarer]"]
                break
    return "\n".join(lines) or f"No file below {folder!r} that matches {pattern!r} holds {text!r}."


def read_lines(root: str, path: str, start: int, most: int, *, max_file_bytes: int) -> str:
    """Return lines of a file, as they are."""
    with Root(root) as opened:
        data = opened.read(path, max_file_bytes)
    text = _as_text(data)
    if text is None:
        raise ToolRetry(f"{path!r} is binary, or not UTF-8: only text can be read.")
    lines = text.splitlines(keepends=True)
    shown = lines[start - 1 : start - 1 + most]
    if not shown:
        return f"[{path} has {len(lines)} lines]"
    left = len(lines) - (start - 1 + len(shown))
    notice = (
        "" if left == 0 else f"\n[{left} more lines of {len(lines)}: go on with start_line={start + len(shown)}]"
    )
    return "".join(shown) + notice


def _walk(
    folder: int, path: str, *, deadline: float, depth: int = 0
) -> Iterator[tuple[str, int, os.stat_result | None]]:
    """Yield each file below an open folder: its path, its folder's descriptor, its status; None for a link."""
    for name in sorted(os.listdir(folder)):
        if time.monotonic() > deadline:
            raise ToolRetry(f"It took longer than {_MAX_SECONDS:g} seconds: name a folder further down.")
        below = f"{path}{name}"
        try:
            status = os.stat(name, dir_fd=folder, follow_symlinks=False)
        except OSError:  # gone meanwhile
            continue
        if stat.S_ISREG(status.st_mode):
            yield below, folder, status
        elif stat.S_ISLNK(status.st_mode):
            yield below, folder, None
        elif stat.S_ISDIR(status.st_mode) and depth < _MAX_DEPTH and name not in _SKIPPED:
            yield from _walk_into(folder, name, below, deadline=deadline, depth=depth)


def _walk_into(
    folder: int, name: str, path: str, *, deadline: float, depth: int
) -> Iterator[tuple[str, int, os.stat_result | None]]:
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        descriptor = os.open(name, flags, dir_fd=folder)
    except OSError:  # not ours to read, or a link by now
        return
    try:
        yield from _walk(descriptor, f"{path}/", deadline=deadline, depth=depth + 1)
    finally:
        os.close(descriptor)


def _hits(
    folder: int, path: str, wanted: str, *, ignore_case: bool, max_file_bytes: int
) -> Iterator[tuple[int, str]]:
    try:
        text = _as_text(read_in(folder, path.rsplit("/", 1)[-1], path, max_file_bytes))
    except ToolRetry:  # too long, or gone
        return
    haystack = (text or "").lower() if ignore_case else text or ""
    if wanted not in haystack:
        return
    for number, line in enumerate((text or "").splitlines(), 1):
        if wanted in (line.lower() if ignore_case else line):
            yield number, line.strip()[:_MAX_HIT_CHARS]


def _as_text(data: bytes) -> str | None:
    if b"\0" in data[:_BINARY_PROBE]:
        return None
    try:
        return data.decode()
    except UnicodeDecodeError:
        return None


def _fits(path: str, pattern: str) -> bool:
    return fnmatchcase(path, pattern) or fnmatchcase(path.rsplit("/", 1)[-1], pattern)


def _joined(folder: str, path: str) -> str:
    base = "/".join(part for part in folder.split("/") if part not in ("", "."))
    return f"{base}/{path}" if base else path
