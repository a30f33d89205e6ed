"""Running a program with bounds: time, output, environment. Activity side."""

import asyncio
import os
import signal
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from perdure.errors import ToolRetry

_ENVIRONMENT = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "TZ")
_MAX_ARGUMENTS = 1000
_MAX_ARGUMENT_BYTES = 100_000
"""Of all arguments; Linux takes 128 KiB of a single one."""
_GRACE_SECONDS = 2.0
"""Between being asked to stop and being killed."""
_CLOSING_SECONDS = 0.5
"""For what a program left behind to close the streams, once it is over itself."""
_POLL_SECONDS = 0.05
_PIECE_BYTES = 64 * 1024


class _Kept:
    """The beginning and the end of a stream."""

    def __init__(self, max_bytes: int) -> None:
        self._head_bytes = max_bytes - max_bytes // 2
        self._tail_bytes = max_bytes // 2
        self._head = bytearray()
        self._tail = bytearray()
        self._total = 0

    def add(self, piece: bytes) -> None:
        self._total += len(piece)
        room = self._head_bytes - len(self._head)
        self._head += piece[:room]
        self._tail += piece[room:]
        if len(self._tail) > self._tail_bytes:
            del self._tail[: len(self._tail) - self._tail_bytes]

    def text(self) -> str:
        left_out = self._total - len(self._head) - len(self._tail)
        if not left_out:
            return (self._head + self._tail).decode(errors="replace")
        notice = f"\n[{left_out} bytes left out]\n"
        return self._head.decode(errors="replace") + notice + self._tail.decode(errors="replace")


async def run_program(
    arguments: Sequence[str],
    *,
    cwd: str | None,
    env_pass: Sequence[str],
    total_seconds: float,
    max_output_bytes: int,
) -> dict[str, Any]:
    """Run a program to its end, or kill it and what it started when its time is over.

    Returns:
        `exit_code` (None when it was killed, negative for a signal), `stdout`, `stderr`; and `killed`, the reason.

    Raises:
        ToolRetry: It can't be started; the text says why.
    """
    _check(arguments)
    process = await _start(arguments, cwd, env_pass)
    kept = _Kept(max_output_bytes), _Kept(max_output_bytes)
    streams = process.stdout, process.stderr
    readers = [asyncio.create_task(_read(s, k)) for s, k in zip(streams, kept, strict=True) if s is not None]
    killed = ""
    try:
        async with asyncio.timeout(total_seconds):
            await _exited(process)
        await asyncio.wait(readers, timeout=_CLOSING_SECONDS)
    except TimeoutError:
        killed = f"It was killed after {total_seconds:g} seconds."
        await _stop(process)
        await asyncio.wait(readers, timeout=_CLOSING_SECONDS)
    finally:
        # What it left behind in its process group goes too; on cancellation there is no time to be polite.
        _signal(process, signal.SIGKILL)
        for reader in readers:
            reader.cancel()
    result = {
        "exit_code": None if killed else process.returncode,
        "stdout": kept[0].text(),
        "stderr": kept[1].text(),
    }
    return {**result, "killed": killed} if killed else result


def _check(arguments: Sequence[str]) -> None:
    if any("\0" in each for each in arguments):
        raise ToolRetry("An argument holds a NUL.")
    size = sum(len(each.encode(errors="surrogatepass")) for each in arguments)
    if len(arguments) > _MAX_ARGUMENTS or size > _MAX_ARGUMENT_BYTES:
        raise ToolRetry(f"The arguments are too long: at most {_MAX_ARGUMENTS}, of {_MAX_ARGUMENT_BYTES:,} bytes.")


async def _start(arguments: Sequence[str], cwd: str | None, env_pass: Sequence[str]) -> Process:
    environment = {name: os.environ[name] for name in (*_ENVIRONMENT, *env_pass) if name in os.environ}
    try:
        return await asyncio.create_subprocess_exec(
            *arguments,
            stdin=DEVNULL,
            stdout=PIPE,
            stderr=PIPE,
            cwd=cwd,
            env=environment,
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ToolRetry(f"{arguments[0]!r} can't be started on this worker: {reason}.") from None


async def _read(stream: asyncio.StreamReader, kept: _Kept) -> None:
    while piece := await stream.read(_PIECE_BYTES):
        kept.add(piece)


async def _exited(process: Process) -> None:
    """Return when the program itself is over.

    `Process.wait` would wait for its streams to be closed too, which what it started may hold open.
    """
    waiting = asyncio.create_task(process.wait())
    try:
        while process.returncode is None:
            await asyncio.wait([waiting], timeout=_POLL_SECONDS)
    finally:
        waiting.cancel()


async def _stop(process: Process) -> None:
    _signal(process, signal.SIGTERM)
    with suppress(TimeoutError):
        async with asyncio.timeout(_GRACE_SECONDS):
            await _exited(process)
            return
    _signal(process, signal.SIGKILL)
    await _exited(process)


def _signal(process: Process, number: signal.Signals) -> None:
    """Signal the program's process group, of which it is the leader."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)
