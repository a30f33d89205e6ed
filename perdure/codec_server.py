"""The codec server: decodes payloads for Temporal's web UI and command line. Wiring; it keeps nothing.

It speaks Temporal's protocol: POST /encode and /decode, behind any one prefix such as a namespace, with payloads
as protobuf JSON. It answers pages of one origin alone, and who has the token, where one is set.
"""

import asyncio
import hmac
import ipaddress
import json
import logging
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from google.protobuf.json_format import MessageToJson, Parse, ParseError
from temporalio.api.common.v1 import Payload, Payloads
from temporalio.converter import DataConverter, PayloadConverter

from perdure._production import Address
from perdure.errors import EncryptionError, PerdureError, SettingsError

_log = logging.getLogger(__name__)

_READ_SECONDS = 30.0
_MOST_BYTES = 64 * 1024 * 1024
_REASONS = {
    200: "OK",
    204: "No Content",
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    411: "Length Required",
    413: "Content Too Large",
    500: "Internal Server Error",
}
_HEADERS = "Authorization, Content-Type, X-Namespace"
_WORK = ("encode", "decode")


class _Refused(Exception):
    """Answered with a status and a line."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class _Request(NamedTuple):
    method: str
    path: str
    headers: Mapping[str, str]
    """By name in lower case."""


@dataclass(frozen=True)
class CodecServer:
    """Answers at an address.

    Args:
        converter: With the project's codec and external storage.
        origin: Of the web UI, exactly, such as `http://localhost:8233`; pages of others are refused.
        token: What `Authorization: Bearer` must have; nothing is asked for when empty.
    """

    converter: DataConverter
    origin: str
    token: str = field(default="", repr=False)

    @asynccontextmanager
    async def served(self, address: Address) -> AsyncGenerator[int]:
        """Answer there, and yield the port.

        Raises:
            SettingsError: It can't be listened on, or nothing but a token would keep others out. Not retryable.
        """
        if not self.token and not _is_loopback(address.host):
            raise SettingsError(
                f"At {address} others than this machine's users could decode payloads: name the variable of a "
                "token by --token-env, or listen on the loopback."
            )
        try:
            server = await asyncio.start_server(self._answer, address.host, address.port)
        except OSError as error:
            raise SettingsError(
                f"Can't listen on {address}: {error.strerror or error}. Choose another by --port."
            ) from None
        async with server:
            yield server.sockets[0].getsockname()[1]

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            async with asyncio.timeout(_READ_SECONDS):
                head = await reader.readuntil(b"\r\n\r\n")
                status, body = await self._handle(head, reader)
            writer.write(self._head(head, status, len(body)) + body)
            await writer.drain()
        writer.close()

    async def _handle(self, head: bytes, reader: asyncio.StreamReader) -> tuple[int, bytes]:
        try:
            request = _read_head(head)
            self._check_origin(request)
            work = _work(request)
            if request.method == "OPTIONS":  # a browser asks before it sends the token
                return 204, b""
            if request.method != "POST":
                raise _Refused(405, "only POST")
            self._check_token(request)
            return 200, await self._work(work, await reader.readexactly(_length(request)))
        except _Refused as error:
            return error.status, json.dumps({"message": str(error)}).encode()
        except EncryptionError as error:
            return 400, json.dumps({"message": error.message}).encode()

    async def _work(self, work: str, body: bytes) -> bytes:
        try:
            payloads = list(Parse(body, Payloads(), ignore_unknown_fields=True).payloads)
        except (ParseError, UnicodeDecodeError):
            raise _Refused(400, "not the JSON of payloads") from None
        codec = self.converter.payload_codec
        try:
            if work == "decode":
                payloads = await decode_payloads(self.converter, payloads)
            elif codec is not None:
                payloads = await codec.encode(payloads)
        except EncryptionError:
            raise
        except (PerdureError, RuntimeError, ValueError) as error:
            _log.warning("Can't %s: %s", work, type(error).__name__)
            raise _Refused(500, f"{type(error).__name__}: it is not in external storage, or broken") from None
        return MessageToJson(Payloads(payloads=payloads), indent=None).encode()

    def _check_origin(self, request: _Request) -> None:
        """Refuse pages of others, also where a name was made to lead here: browsers tell the page's own origin."""
        origin = request.headers.get("origin")
        if origin is not None and origin != self.origin:
            raise _Refused(403, "pages of this origin are not answered")

    def _check_token(self, request: _Request) -> None:
        if not self.token:
            return
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        is_known = hmac.compare_digest(given.strip().encode(), self.token.encode())
        if scheme.lower() != "bearer" or not is_known:
            raise _Refused(401, "Authorization: Bearer is missing, or another token's")

    def _head(self, head: bytes, status: int, length: int) -> bytes:
        lines = [f"HTTP/1.1 {status} {_REASONS[status]}", f"Content-Length: {length}", "Connection: close"]
        if length:
            lines.append("Content-Type: application/json")
        if status == 401:
            lines.append("WWW-Authenticate: Bearer")
        if status != 403:
            lines += [f"Access-Control-Allow-Origin: {self.origin}", "Vary: Origin"]
            lines += ["Access-Control-Allow-Methods: POST, OPTIONS", f"Access-Control-Allow-Headers: {_HEADERS}"]
            lines += ["Access-Control-Allow-Credentials: true", "Access-Control-Max-Age: 600"]
        return ("\r\n".join(lines) + "\r\n\r\n").encode()


async def decode_payloads(converter: DataConverter, payloads: list[Payload]) -> list[Payload]:
    """Return payloads as they were before external storage and codec.

    Raises:
        EncryptionError: A key isn't here. Retryable.
    """
    raw = replace(converter, payload_converter_class=_RawConverter)
    return await raw.decode(payloads)


def _read_head(head: bytes) -> _Request:
    first, *lines = head.decode("latin-1").split("\r\n")
    parts = first.split(" ")
    if len(parts) != 3:
        raise _Refused(400, "no HTTP request")
    headers: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    return _Request(parts[0], parts[1].partition("?")[0], headers)


def _work(request: _Request) -> str:
    *prefix, work = request.path.strip("/").split("/")
    if work not in _WORK or len(prefix) > 1:
        raise _Refused(404, "only /encode and /decode")
    return work


def _length(request: _Request) -> int:
    text = request.headers.get("content-length", "")
    if not (text.isascii() and text.isdigit()) or "transfer-encoding" in request.headers:
        raise _Refused(411, "Content-Length is needed")
    if int(text) > _MOST_BYTES:
        raise _Refused(413, f"at most {_MOST_BYTES:,} bytes")
    return int(text)


def _is_loopback(host: str) -> bool:
    return ipaddress.ip_address(host).is_loopback


class _RawConverter(PayloadConverter):
    """Takes payloads for values: what is wanted are payloads."""

    def to_payloads(self, values: Sequence[Any]) -> list[Payload]:
        return list(values)

    def from_payloads(self, payloads: Sequence[Payload], type_hints: list[type] | None = None) -> list[Any]:
        return list(payloads)
