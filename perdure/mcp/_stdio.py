"""A server as a process, over its standard input and output. Activity side; imported when one is opened.

The SDK's own transport has no bound for a line, and adds variables to the environment. This one bounds what is
read of both outputs, keeps the end of the errors, and kills the process group when the session ends.
"""

import asyncio
import os
import signal
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from mcp.client._transport import TransportStreams
from mcp.shared.message import SessionMessage
from mcp_types import JSONRPCNotification, jsonrpc_message_adapter

from perdure.mcp._faults import ServerFault
from perdure.mcp._meter import Flooded, Meter

_ERROR_BYTES = 2000
"""Of the end of the standard error output, which says why a process ended."""
_POLITE_SECONDS = 0.5
"""For a process to end by itself once its input is closed, and again once it is told to."""
_LAST_WORDS_SECONDS = 0.5

Incoming = MemoryObjectSendStream[SessionMessage | Exception]
Outgoing = MemoryObjectReceiveStream[SessionMessage]


@dataclass(frozen=True, kw_only=True)
class Command:
    """How a process is started."""

    words: Sequence[str]
    environment: Mapping[str, str]
    folder: Path
    max_message_bytes: int


class ProcessWire:
    """The streams of a process, and why they ended.

    Attributes:
        fault: Why the server is gone, once it is.
        has_ended: It says no more; `fault` follows.
    """

    def __init__(self, command: Command, on_end: Callable[[], None]) -> None:
        """Start nothing yet; `on_end` is called when the process says no more."""
        self.fault = ""
        self.has_ended = False
        self._command = command
        self._on_end = on_end
        self._errors = b""
        self._is_silent = asyncio.Event()

    @asynccontextmanager
    async def opened(self) -> AsyncGenerator[TransportStreams]:
        """Start the process, and kill it with all that it started at the end.

        Raises:
            ServerFault: It can't be started.
        """
        process = await self._start()
        incoming, read_stream = anyio.create_memory_object_stream[SessionMessage | Exception](0)
        write_stream, outgoing = anyio.create_memory_object_stream[SessionMessage](0)
        work = [
            asyncio.create_task(each)
            for each in (self._read(process, incoming), self._write(process, outgoing), self._listen(process))
        ]
        try:
            yield read_stream, write_stream
        finally:
            await _end(process)
            for task in work:
                task.cancel()
            await asyncio.gather(*work, return_exceptions=True)
            _let_go(process)
            for stream in (incoming, read_stream, write_stream, outgoing):
                stream.close()

    async def _start(self) -> Process:
        command = self._command
        try:
            return await asyncio.create_subprocess_exec(
                *command.words,
                stdin=PIPE,
                stdout=PIPE,
                stderr=PIPE,
                env=dict(command.environment),
                cwd=command.folder,
                start_new_session=True,
                limit=command.max_message_bytes,
            )
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else "it can't be a command"
            raise ServerFault(f"{command.words[0]} can't be started: {reason}") from None

    async def _read(self, process: Process, incoming: Incoming) -> None:
        assert process.stdout is not None
        meter = Meter(self._command.max_message_bytes)
        try:
            while line := await process.stdout.readline():
                meter.add(len(line))
                message = _parse(line)
                if message is not None and _is_wanted(message):
                    await incoming.send(message)
        except ValueError:  # how a StreamReader says that a line is longer than its limit
            self.fault = f"it sent a message of more than {self._command.max_message_bytes} bytes"
        except Flooded as error:
            self.fault = str(error)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            pass  # the session is over
        finally:
            self.has_ended = True
            incoming.close()
            self.fault = self.fault or await self._why_ended(process)
            self._on_end()

    async def _why_ended(self, process: Process) -> str:
        with suppress(TimeoutError):
            async with asyncio.timeout(_POLITE_SECONDS):
                await process.wait()
            async with asyncio.timeout(_LAST_WORDS_SECONDS):  # what it started may keep the stream open
                await self._is_silent.wait()
        code = "" if process.returncode is None else f" with code {process.returncode}"
        told = self._errors.decode(errors="replace").strip()
        return f"its process ended{code}" + (f"; the last it said: {told[-500:]}" if told else "")

    async def _write(self, process: Process, outgoing: Outgoing) -> None:
        assert process.stdin is not None
        with suppress(ConnectionError, OSError, RuntimeError):
            async with outgoing:
                async for message in outgoing:
                    data = message.message.model_dump_json(by_alias=True, exclude_unset=True)
                    process.stdin.write(data.encode() + b"\n")
                    await process.stdin.drain()

    async def _listen(self, process: Process) -> None:
        """Keep the end of what it says beside its answers, and never let it wait for a reader."""
        assert process.stderr is not None
        while chunk := await process.stderr.read(65536):
            self._errors = (self._errors + chunk)[-_ERROR_BYTES:]
        self._is_silent.set()


def _parse(line: bytes) -> SessionMessage | None:
    """Return a message; None for what is none, such as a greeting that a server prints."""
    try:
        return SessionMessage(jsonrpc_message_adapter.validate_json(line, by_name=False))
    except ValueError:
        return None


_WANTED = ("notifications/tools/list_changed", "notifications/cancelled")
"""Of what servers tell unasked; progress, logs and the like would only cost time."""


def _is_wanted(message: SessionMessage) -> bool:
    return not isinstance(message.message, JSONRPCNotification) or message.message.method in _WANTED


async def _end(process: Process) -> None:
    """End a process and all of its group: by the end of its input, else by signals."""
    if process.stdin is not None:
        process.stdin.close()
    if await _has_ended(process):
        _signal(process, _KILL)  # of what it started, something may be left
        return
    _signal(process, signal.SIGTERM)
    await _has_ended(process)
    _signal(process, _KILL)
    await _has_ended(process)


_KILL = getattr(signal, "SIGKILL", signal.SIGTERM)
"""Windows has no other signal to end a process with."""


async def _has_ended(process: Process) -> bool:
    """Wait for a process, by its code: `wait` also waits for pipes, which a child may hold open."""
    clock = asyncio.get_running_loop().time
    deadline = clock() + _POLITE_SECONDS
    while process.returncode is None and clock() < deadline:  # noqa: ASYNC110 - there is no event without pipes
        await asyncio.sleep(0.01)
    return process.returncode is not None


def _let_go(process: Process) -> None:
    """Close the pipes, which something that left the group may hold open; nothing public does it."""
    transport = getattr(process, "_transport", None)
    if transport is not None:
        with suppress(PermissionError):
            transport.close()


def _signal(process: Process, number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        if hasattr(os, "killpg"):
            os.killpg(process.pid, number)
        elif process.returncode is None:
            process.send_signal(number)
