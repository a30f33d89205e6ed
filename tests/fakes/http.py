"""A small HTTP/1.1 server whose every answer is scripted, byte by byte where a test wants that."""

import asyncio
import json
import socket
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from types import TracebackType
from typing import Any, Self


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Connection:
    """One client's connection; the script writes to it as it likes."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    is_open: bool = True

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def head(self, status: int = 200, **headers: str) -> None:
        lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase if status in set(HTTPStatus) else 'Odd'}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        await self.send(("\r\n".join(lines) + "\r\n\r\n").encode())

    async def answer(self, status: int, body: bytes, **headers: str) -> None:
        headers = {"content_type": "application/json", "content_length": str(len(body)), **headers}
        await self.head(status, **headers)
        await self.send(body)

    async def answer_json(self, status: int, value: object, **headers: str) -> None:
        await self.answer(status, json.dumps(value).encode(), **headers)

    async def stream_head(self, **headers: str) -> None:
        plain = {"content_type": "text/event-stream; charset=utf-8", "transfer_encoding": "chunked"}
        await self.head(200, **plain, **headers)

    async def chunk(self, data: bytes) -> None:
        await self.send(b"%x\r\n%b\r\n" % (len(data), data))

    async def stream_end(self) -> None:
        await self.send(b"0\r\n\r\n")

    def close(self) -> None:
        self.is_open = False
        self.writer.close()

    def reset(self) -> None:
        self.is_open = False
        self.writer.transport.abort()

    async def peer_left(self) -> None:
        """Return when the client has closed its end."""
        with suppress(ConnectionError):
            while await self.reader.read(4096):
                pass
        self.close()


Script = Callable[[Request, Connection], Awaitable[None]]


@dataclass
class HttpServer:
    """Serves `script` on a free port of the loopback interface, while its context is open.

    Attributes:
        listener: A socket that is bound already; until the context is opened, connections to it are refused.
    """

    script: Script
    requests: list[Request] = field(default_factory=list[Request])
    connections: int = 0
    listener: socket.socket | None = None

    async def __aenter__(self) -> Self:
        self._tasks: set[asyncio.Task[None]] = set()
        free: dict[str, Any] = {"host": "127.0.0.1", "port": 0}
        place: dict[str, Any] = free if self.listener is None else {"sock": self.listener}
        self._server = await asyncio.start_server(self._serve, **place, limit=2**20, backlog=2048)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self.connections += 1
        connection = Connection(reader, writer)
        try:
            while connection.is_open and (request := await _read_request(reader, writer)):
                self.requests.append(request)
                await self.script(request, connection)
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()


async def _read_request(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Request | None:
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.strip().split("\r\n")
    method, path, _ = first.split(" ")
    pairs = (line.split(":", 1) for line in lines)
    headers = {name.strip().lower(): value.strip() for name, value in pairs}
    if headers.get("expect") == "100-continue":
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Request(method, path, headers, body)


def event(value: object, name: str = "") -> bytes:
    """Return a server-sent event."""
    prefix = f"event: {name}\n" if name else ""
    data = value if isinstance(value, str) else json.dumps(value)
    return f"{prefix}data: {data}\n\n".encode()


async def hang(request: Request, connection: Connection) -> None:
    """Answer nothing until the client leaves."""
    await connection.peer_left()
