"""Files below one folder, and never outside of it. Activity side; POSIX only.

A path is walked from the root's descriptor, a part at a time, with O_NOFOLLOW. `..` goes back along the
descriptors that were opened, not to whatever is the parent by now. A link's target is put in the place of its name
and walked alike. So a folder that is exchanged for a link in the middle of it leads nowhere.
"""

import os
import stat
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from secrets import token_hex
from types import TracebackType
from typing import Self

from perdure.errors import ToolRetry

_FOLDER = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
_FILE = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
_MAX_PARTS = 200
_MAX_LINKS = 20
_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFLNK: "a link",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class OutsideError(ToolRetry):
    """The path leads out of the root."""


@dataclass
class _Walk:
    """A path that is being walked: the descriptors so far, and the parts to come."""

    path: str
    folders: list[int]
    """The root's descriptor is the first, and isn't ours to close."""
    left: list[str]
    """In reverse."""
    links: int = 0

    def close(self) -> None:
        while len(self.folders) > 1:
            os.close(self.folders.pop())

    def back(self) -> None:
        if len(self.folders) == 1:
            raise OutsideError(f"{self.path!r} is outside of the root.")
        os.close(self.folders.pop())


@dataclass
class Root:
    """The folder, opened; use it as a context."""

    path: str
    _descriptor: int = field(default=-1, init=False)

    def __enter__(self) -> Self:
        """Open the folder; where it is a link itself, that is the operator's choice."""
        if os.open not in os.supports_dir_fd:
            raise ToolRetry("Files can't be confined to a folder on this system: the tool needs POSIX.")
        try:
            self._descriptor = os.open(self.path, _FOLDER & ~getattr(os, "O_NOFOLLOW", 0))
        except OSError as error:
            raise ToolRetry(f"The root can't be opened on this worker: {error.strerror}.") from None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the folder."""
        os.close(self._descriptor)

    def read(self, path: str, max_bytes: int) -> bytes:
        """Return what is in a file.

        Raises:
            ToolRetry: There is none, it is no plain file, is too long, or outside.
        """
        with self.parent(path) as (folder, name):
            return read_in(folder, name, path, max_bytes)

    def write(self, path: str, data: bytes) -> None:
        """Put a file in place, whole or not at all.

        Raises:
            ToolRetry: It can't be written there.
        """
        with self.parent(path, make=True) as (folder, name):
            mode = _mode_of_target(folder, name, path)
            temporary = f".{token_hex(8)}.tmp"
            try:
                _write_new(folder, temporary, data, mode)
                os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
            except OSError as error:
                with suppress(OSError):
                    os.unlink(temporary, dir_fd=folder)
                raise ToolRetry(f"{path!r} can't be written: {error.strerror}.") from None

    @contextmanager
    def parent(self, path: str, *, make: bool = False) -> Generator[tuple[int, str]]:
        """Yield the descriptor of the folder that a file is in, and its name there; links are resolved."""
        walk = self._start(path)
        try:
            while True:
                name = walk.left.pop() if walk.left else ""
                if name == "..":
                    walk.back()
                elif walk.left:
                    self._enter(walk, name, make=make)
                elif not name:
                    raise ToolRetry(f"{path!r} is a folder, not a file.")
                elif not _follow(walk, name):
                    yield walk.folders[-1], name
                    return
        finally:
            walk.close()

    @contextmanager
    def folder(self, path: str) -> Generator[int]:
        """Yield the descriptor of a folder; links are resolved."""
        walk = self._start(path)
        try:
            while walk.left:
                name = walk.left.pop()
                if name == "..":
                    walk.back()
                else:
                    self._enter(walk, name, make=False)
            yield walk.folders[-1]
        finally:
            walk.close()

    def _start(self, path: str) -> _Walk:
        if path.startswith("/"):
            raise OutsideError(f"{path!r} is absolute: give a path relative to the root.")
        return _Walk(path, [self._descriptor], _parts(path, path))

    def _enter(self, walk: _Walk, name: str, *, make: bool) -> None:
        here = walk.folders[-1]
        if _follow(walk, name):
            return
        try:
            if make:
                with suppress(FileExistsError):
                    os.mkdir(name, dir_fd=here)
            walk.folders.append(os.open(name, _FOLDER, dir_fd=here))
        except FileNotFoundError:
            raise ToolRetry(f"There is no folder {name!r} on the way to {walk.path!r}.") from None
        except OSError as error:
            raise ToolRetry(f"{walk.path!r} can't be opened at {name!r}: {error.strerror}.") from None


def read_in(folder: int, name: str, path: str, max_bytes: int) -> bytes:
    """Return what is in a file of a folder that is open; raises ToolRetry as `Root.read` does."""
    try:
        _check_plain(os.stat(name, dir_fd=folder, follow_symlinks=False), path, max_bytes)
        # It may be something else by now: a pipe is opened without waiting for its writer, a link not at all.
        descriptor = os.open(name, _FILE, dir_fd=folder)
    except FileNotFoundError:
        raise ToolRetry(f"There is no file {path!r}.") from None
    except OSError as error:
        raise ToolRetry(f"{path!r} can't be opened: {error.strerror}.") from None
    with os.fdopen(descriptor, "rb") as file:
        _check_plain(os.fstat(descriptor), path, max_bytes)
        data = file.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise ToolRetry(f"{path!r} is longer than {max_bytes:,} bytes.")
    return data


def _parts(text: str, path: str) -> list[str]:
    """Return the parts of a path in reverse."""
    if "\0" in text:
        raise OutsideError("A path holds no NUL.")
    parts = [part for part in text.split("/") if part not in ("", ".")]
    if len(parts) > _MAX_PARTS:
        raise ToolRetry(f"{path[:100]!r} … has more than {_MAX_PARTS} parts.")
    return parts[::-1]


def _follow(walk: _Walk, name: str) -> bool:
    """Put a link's target in its place, if `name` is one; the walk goes on with that."""
    try:
        target = os.readlink(name, dir_fd=walk.folders[-1])
    except OSError:  # no link, or not there: whoever opens it says so
        return False
    walk.links += 1
    if walk.links > _MAX_LINKS:
        raise ToolRetry(f"{walk.path!r} leads through more than {_MAX_LINKS} links.")
    if target.startswith("/"):
        raise OutsideError(
            f"{walk.path!r} leads through {name!r}, a link to an absolute path: it is not followed."
        )
    walk.left.extend(_parts(target, walk.path))
    return True


def _check_plain(status: os.stat_result, path: str, max_bytes: int) -> None:
    kind = stat.S_IFMT(status.st_mode)
    if kind != stat.S_IFREG:
        raise ToolRetry(f"{path!r} is {_KINDS.get(kind, 'no file')}, not a plain file.")
    if status.st_size > max_bytes:
        raise ToolRetry(f"{path!r} has {status.st_size:,} bytes, more than the {max_bytes:,} that are read.")


def _mode_of_target(folder: int, name: str, path: str) -> int | None:
    """Return the permissions of the file that is replaced; None where there is none."""
    try:
        status = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except OSError:
        return None
    kind = stat.S_IFMT(status.st_mode)
    if kind != stat.S_IFREG:
        raise ToolRetry(f"{path!r} is {_KINDS.get(kind, 'no file')}: it is not replaced.")
    return stat.S_IMODE(status.st_mode) & 0o777


def _write_new(folder: int, name: str, data: bytes, mode: int | None) -> None:
    with os.fdopen(os.open(name, _NEW, 0o666, dir_fd=folder), "wb") as file:
        if mode is not None:
            os.fchmod(file.fileno(), mode)
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
