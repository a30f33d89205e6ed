"""Activity side; owns turning a response's raw bytes into content of bounded size. No sockets."""

import zlib
from collections.abc import AsyncIterator
from typing import Protocol

import httpx


class BrokenBodyError(Exception):
    """The body can't be read to its end; the text says why."""


class _Inflater(Protocol):
    @property
    def eof(self) -> bool: ...

    def decompress(self, data: bytes, max_length: int = ..., /) -> bytes: ...


class BoundedBody(httpx.AsyncByteStream):
    """The decoded body of a response, which ends with an error when it grows too long, or is cut.

    httpx decompresses each chunk in full before one can count: 200 kB of gzip became 200 MB in memory.
    """

    def __init__(self, response: httpx.Response, *, max_bytes: int, is_cut_off: bool = False) -> None:
        self._response = response
        self._max_bytes = max_bytes
        self._is_cut_off = is_cut_off
        self.was_cut = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield decoded bytes.

        Raises:
            BrokenBodyError: too long, cut short, or of an unknown encoding.
        """
        decode = self._decoder()
        left = self._max_bytes
        if decode is None and not self._is_cut_off and int(self._response.headers.get("content-length", 0)) > left:
            raise self._too_long()
        async for raw in self._response.aiter_raw():
            piece = raw if decode is None else _inflate(decode, raw, left + 1)
            left -= len(piece)
            if left < 0 and self._is_cut_off:
                self.was_cut = True
                yield piece[:left]
                return
            if left < 0:
                raise self._too_long()
            if piece:
                yield piece
        if decode is not None and not decode.eof:
            raise BrokenBodyError("the compressed response ended early")

    def _decoder(self) -> _Inflater | None:
        encoding = self._response.headers.get("content-encoding", "identity").strip().lower()
        if encoding in ("", "identity"):
            return None
        if encoding in ("gzip", "x-gzip", "deflate"):
            return zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)
        raise BrokenBodyError(f"the response is encoded as {encoding!r}, which nobody asked for")

    def _too_long(self) -> BrokenBodyError:
        return BrokenBodyError(f"the response is longer than {self._max_bytes:,} bytes")


def _inflate(decoder: _Inflater, raw: bytes, limit: int) -> bytes:
    try:
        return decoder.decompress(raw, limit)
    except zlib.error:
        raise BrokenBodyError("the compressed response is damaged") from None
