"""A server at an address, over Streamable HTTP. Activity side; imported when one is opened.

The SDK's transport follows no redirect to another origin. What is added here: bounds, and what became of requests.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

import httpx2
from mcp.client._transport import TransportStreams
from mcp.client.streamable_http import streamable_http_client

from perdure.mcp._meter import Flooded, Meter

_CONNECT_SECONDS = 10.0
_GONE = (404, 410)
"""How a server says that it knows a session no more."""
_REFUSED = 400
_NO_SESSION = b"no valid session id"
"""What those say instead, with a 400, that are made after the examples of the TypeScript SDK."""


class HttpWire:
    """The requests to one server, and what went wrong with them.

    Attributes:
        fault: Why the server is gone, once it is.
        has_ended: It is.
        is_unsent: The last request didn't reach it, or was refused before anything was run.
    """

    def __init__(
        self,
        url: str,
        headers: Mapping[str, str],
        *,
        max_message_bytes: int,
        read_seconds: float,
        on_end: Callable[[], None],
    ) -> None:
        """Connect to nothing yet."""
        self.fault = ""
        self.has_ended = self.is_unsent = False
        self._url, self._headers = url, headers
        self._max_bytes = max_message_bytes
        self._read_seconds = read_seconds
        self._on_end = on_end

    @asynccontextmanager
    async def opened(self) -> AsyncGenerator[TransportStreams]:
        """Give streams to the session; the server is told when it ends."""
        timeout = httpx2.Timeout(_CONNECT_SECONDS, read=self._read_seconds)
        wire = _Bounded(self, httpx2.AsyncHTTPTransport(), Meter(self._max_bytes), self._max_bytes)
        headers = {**self._headers, "accept-encoding": "identity"}
        async with (
            httpx2.AsyncClient(headers=headers, timeout=timeout, transport=wire) as client,
            streamable_http_client(self._url, http_client=client, max_sse_event_size=self._max_bytes) as streams,
        ):
            yield streams

    def note(self, fault: str, *, is_unsent: bool) -> None:
        """Take down what went wrong; the session is over with it."""
        self.fault, self.is_unsent, self.has_ended = fault, is_unsent, True
        self._on_end()


class _Bounded(httpx2.AsyncBaseTransport):
    def __init__(self, wire: HttpWire, inner: httpx2.AsyncBaseTransport, meter: Meter, max_bytes: int) -> None:
        self._wire, self._inner, self._meter, self._max_bytes = wire, inner, meter, max_bytes

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        is_call = request.method == "POST"
        try:
            response = await self._inner.handle_async_request(request)
        except httpx2.TransportError as error:
            if is_call:
                unsent = isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout | httpx2.PoolTimeout)
                self._wire.note(f"it can't be reached ({type(error).__name__})", is_unsent=unsent)
            raise
        status = response.status_code
        if is_call and (status in (401, 403, 429) or status >= 500):
            self._wire.note(f"it answered with HTTP {status}", is_unsent=status < 500)
        in_session = is_call and "mcp-session-id" in request.headers
        if in_session and status in _GONE:
            self._forget()
        if response.headers.get("content-encoding", "identity") != "identity":
            await response.aclose()
            raise httpx2.ReadError("the answer is compressed, though it was not to be", request=request)
        is_stream = response.headers.get("content-type", "").startswith("text/event-stream")
        assert isinstance(response.stream, httpx2.AsyncByteStream)
        response.stream = _Counted(
            response.stream, self, most=None if is_stream else self._max_bytes, is_call=is_call
        )
        if in_session and status == _REFUSED:
            await self._read_refusal(response)
        return response

    async def _read_refusal(self, response: httpx2.Response) -> None:
        assert isinstance(response.stream, httpx2.AsyncByteStream)
        body = b"".join([chunk async for chunk in response.stream])
        await response.stream.aclose()
        response.stream = httpx2.ByteStream(body)
        if _NO_SESSION in body.lower():
            self._forget()

    def _forget(self) -> None:
        """End the session: the server knows it no more, and has run nothing."""
        self._wire.note("it knows the session no more", is_unsent=True)

    def count(self, chunk: bytes) -> None:
        """Count a piece of an answer, and the messages in it."""
        try:
            self._meter.add(len(chunk), messages=chunk.count(b"data:"))
        except Flooded as error:
            self.stop(str(error))

    def stop(self, reason: str) -> None:
        """End the session: the server sends too much."""
        self._wire.note(reason, is_unsent=False)
        raise httpx2.ReadError(reason)

    def lost(self, error: Exception) -> None:
        """Take down that an answer broke off."""
        if self._wire.fault:
            return  # by what was too much
        self._wire.note(f"its answer broke off ({type(error).__name__})", is_unsent=False)

    async def aclose(self) -> None:
        await self._inner.aclose()


class _Counted(httpx2.AsyncByteStream):
    def __init__(self, inner: httpx2.AsyncByteStream, owner: _Bounded, *, most: int | None, is_call: bool) -> None:
        self._inner, self._owner, self._most, self._is_call = inner, owner, most, is_call

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = 0
        try:
            async for chunk in self._inner:
                size += len(chunk)
                self._owner.count(chunk)
                if self._most is not None and size > self._most:
                    self._owner.stop(f"it sent a message of more than {self._most} bytes")
                yield chunk
        except (httpx2.ReadError, httpx2.RemoteProtocolError) as error:
            if self._is_call:
                self._owner.lost(error)
            raise

    async def aclose(self) -> None:
        await self._inner.aclose()
