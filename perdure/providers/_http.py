"""Activity side; owns the HTTP connections, deadlines and what an answer looks like. Knows no vendor.

httpx's timeouts are per read, so they notice a stall but not a slow drip: a deadline is put around all of it.
"""

import asyncio
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

import httpx
from httpx_sse import EventSource

from perdure.errors import ModelCallError
from perdure.providers._decode import BoundedBody, BrokenBodyError
from perdure.providers._errors import VendorErrors
from perdure.providers._transport import BROKEN, NewTransport, environment_proxy, fastest_transport
from perdure.providers._wire import loads

DEFAULT_MAX_RESPONSE_BYTES = 16 * 1024 * 1024
_MAX_ERROR_BYTES = 1024 * 1024
_ERROR_BODY_SECONDS = 2.0
_DRAIN_SECONDS = 0.05
_CONNECT_SECONDS = 15.0
_POOL_SIZE = 32
_WRITE_BYTES = 100_000
"""What is given to the transport at once, or little more; it copies that, and large copies are slow."""

HeadSink = Callable[[list[tuple[bytes, bytes]]], None]
"""Is told the headers of an answer, whatever its status."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What one exchange may take."""

    total_seconds: float
    stall_seconds: float
    max_response_bytes: int = DEFAULT_MAX_RESPONSE_BYTES


class _RequestBody(httpx.AsyncByteStream):
    """A body that knows whether it was sent: only then can the vendor bill the call.

    It is dropped then: a model thinks for minutes over a conversation that may take megabytes. Nor is all of it
    ever put together: a group of pieces is, and sent.
    """

    def __init__(self, pieces: list[bytes]) -> None:
        self._pieces = pieces
        self.size = sum(map(len, pieces))
        self.is_sent = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        pieces, self._pieces = self._pieces, []
        group: list[bytes] = []
        size = 0
        for piece in pieces:
            group.append(piece)
            size += len(piece)
            if size >= _WRITE_BYTES:
                yield b"".join(group)
                group, size = [], 0
        if group:
            yield b"".join(group)
        self.is_sent = True


class Answer:
    """A 200: its body as JSON, or as the events of a stream."""

    def __init__(self, response: httpx.Response, bounds: Bounds) -> None:
        self._response = response
        self._body = BoundedBody(response, max_bytes=bounds.max_response_bytes)
        self._type = response.headers.get("content-type", "").partition(";")[0].strip().lower()

    @property
    def is_stream(self) -> bool:
        """Whether the body is a stream of events; a server may answer either way."""
        return self._type == "text/event-stream"

    async def events(self, is_done: Callable[[], bool]) -> AsyncGenerator[Any]:
        """Yield the JSON value of each event, or its text where that is `[DONE]`, until `is_done`.

        Raises:
            BrokenBodyError: an event holds no JSON.
        """
        plain = httpx.Response(200, headers={"content-type": "text/event-stream"}, stream=self._body)
        async with aclosing(EventSource(plain).aiter_sse()) as source:
            async for event in source:
                data = event.data.strip()
                if data:
                    yield data if data == "[DONE]" else _parse(data)
                if is_done():
                    await _drain(source)
                    return

    async def json(self) -> Any:
        """Return the whole body's value.

        Raises:
            BrokenBodyError: the body is no JSON.
        """
        if self._type and self._type != "application/json" and not self._type.endswith("+json"):
            raise BrokenBodyError(f"a response of type {self._type!r} instead of JSON; is the base URL right?")
        return _parse(b"".join([piece async for piece in self._body]))


def _parse(data: str | bytes) -> Any:
    try:
        return loads(data)
    except ValueError:
        raise BrokenBodyError("the response holds broken or truncated JSON") from None


@cache
def _tls_context() -> ssl.SSLContext:
    """Return the context of all connections: loading certificates takes 30 ms."""
    return httpx.create_ssl_context()


@dataclass(slots=True)
class _Pool:
    transport: httpx.AsyncBaseTransport
    proxy: str | None
    in_use: int = 0


class HttpLayer:
    """The connections of all providers and runs of a worker.

    They are spread over pools: a pool of httpx's looks at all of its connections several times a request,
    which at 1,000 open calls was 35 ms of CPU for each.
    """

    def __init__(self, new_transport: NewTransport = fastest_transport) -> None:
        self._new_transport = new_transport
        self._pools: list[_Pool] = []

    async def aclose(self) -> None:
        """Close the connections."""
        pools, self._pools = self._pools, []
        for pool in pools:
            await pool.transport.aclose()

    def _pool(self, url: httpx.URL) -> _Pool:
        """Return the first pool for an address that has room: few calls share few connections."""
        proxy = _proxy(url)
        for pool in self._pools:
            if pool.proxy == proxy and pool.in_use < _POOL_SIZE:
                return pool
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=_POOL_SIZE, keepalive_expiry=30)
        pool = _Pool(self._new_transport(_tls_context(), limits, proxy), proxy)
        self._pools.append(pool)
        return pool

    @asynccontextmanager
    async def post(
        self,
        url: str,
        *,
        headers: dict[str, str],
        body: list[bytes],
        bounds: Bounds,
        errors: VendorErrors,
        on_head: HeadSink | None = None,
    ) -> AsyncGenerator[Answer]:
        """Send `body`, and give the answer while the connection is open.

        Raises:
            ModelCallError: no answer, an answer that can't be used, or an error of the vendor's.
        """
        content = _RequestBody(body)
        del body
        try:
            request = _request(url, headers, content, bounds)
            pool = self._pool(request.url)
        except (ValueError, ImportError, httpx.InvalidURL) as error:
            raise errors.failed(f"the request can't be sent: {error}.", kind="fatal") from None
        deadline = asyncio.timeout(bounds.total_seconds)
        try:
            async with deadline, _exchange(pool, request, bounds, errors, on_head) as answer:
                yield answer
        except TimeoutError:
            if not deadline.expired():
                raise
            text = f"no complete answer within {bounds.total_seconds:g} s."
            raise errors.failed(text, may_be_billed=content.is_sent) from None
        except BrokenBodyError as error:
            raise errors.failed(f"{error}.", may_be_billed=True) from None
        except BROKEN as error:
            raise _transport_error(error, content.is_sent, bounds, errors) from None


@asynccontextmanager
async def _exchange(
    pool: _Pool, request: httpx.Request, bounds: Bounds, errors: VendorErrors, on_head: HeadSink | None
) -> AsyncGenerator[Answer]:
    pool.in_use += 1
    try:
        response = await pool.transport.handle_async_request(request)
        try:
            if on_head is not None:
                on_head(response.headers.raw)
            if response.status_code != 200:
                raise await _vendor_error(response, errors)
            yield Answer(response, bounds)
        finally:
            await response.aclose()
    finally:
        pool.in_use -= 1


def _request(url: str, headers: dict[str, str], content: _RequestBody, bounds: Bounds) -> httpx.Request:
    common = {
        "content-type": "application/json",
        "accept": "application/json, text/event-stream",
        # Replies are small, and a compressed stream tends to arrive late.
        "accept-encoding": "identity",
        "user-agent": "perdure",
        "content-length": str(content.size),
    }
    stall = bounds.stall_seconds
    timeout = httpx.Timeout(stall, connect=min(stall, _CONNECT_SECONDS), pool=None)
    target = _parsed(url)
    # httpx leaves this header to us where the body is a stream of our own.
    host = {"host": target.netloc.decode("ascii")}
    return httpx.Request(
        "POST",
        target,
        headers={**host, **common, **headers},
        stream=content,
        extensions={"timeout": timeout.as_dict()},
    )


@lru_cache(maxsize=64)
def _parsed(url: str) -> httpx.URL:
    return httpx.URL(url)


@lru_cache(maxsize=64)
def _proxy(url: httpx.URL) -> str | None:
    return environment_proxy(url)


async def _vendor_error(response: httpx.Response, errors: VendorErrors) -> ModelCallError:
    """Classify by what can be read of the body soon; the status alone says most."""
    received: list[bytes] = []
    with suppress(TimeoutError, BrokenBodyError, *BROKEN):
        async with asyncio.timeout(_ERROR_BODY_SECONDS):
            async for piece in BoundedBody(response, max_bytes=_MAX_ERROR_BYTES):
                received.append(piece)
    return errors.answered(response.status_code, response.headers, b"".join(received))


async def _drain(source: AsyncIterator[Any]) -> None:
    """Read what is behind the last event: a connection is only used again once its response has ended."""
    with suppress(TimeoutError, BrokenBodyError, *BROKEN):
        async with asyncio.timeout(_DRAIN_SECONDS):
            async for _ in source:
                pass


def _transport_error(error: Exception, is_sent: bool, bounds: Bounds, errors: VendorErrors) -> ModelCallError:
    detail = str(error) or type(error).__name__
    if isinstance(error, httpx.UnsupportedProtocol | httpx.LocalProtocolError):
        return errors.failed(f"the request can't be sent: {detail}.", kind="fatal")
    if not is_sent:
        return errors.failed(f"can't reach the server: {detail}.")
    if isinstance(error, httpx.ReadTimeout):
        text = f"nothing was received for {bounds.stall_seconds:g} s."
        return errors.failed(text, may_be_billed=True)
    return errors.failed(f"the connection broke: {detail}.", may_be_billed=True)
