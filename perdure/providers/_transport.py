"""Activity side; owns the choice of an HTTP transport: aiohttp's where it is installed, by the extra `fast`.

A streamed call takes a third of the CPU with aiohttp. It is the transport that the vendors' own packages offer
(`openai[aiohttp]`, `anthropic[aiohttp]`).
"""

import ssl
from collections.abc import Callable

import httpx

NewClient = Callable[[ssl.SSLContext, httpx.Limits], httpx.AsyncClient]


def httpx_client(tls: ssl.SSLContext, limits: httpx.Limits) -> httpx.AsyncClient:
    """Return a client with httpx's own transport."""
    return httpx.AsyncClient(verify=tls, limits=limits, follow_redirects=False)


try:
    import aiohttp
    from httpx_aiohttp import HttpxAiohttpClient
except ImportError:
    _foreign: tuple[type[Exception], ...] = ()
    fastest_client = httpx_client
else:
    _foreign = (aiohttp.ClientError,)

    def fastest_client(tls: ssl.SSLContext, limits: httpx.Limits) -> httpx.AsyncClient:
        """Return a client with the fastest transport that is installed."""
        return HttpxAiohttpClient(verify=tls, limits=limits, follow_redirects=False)


BROKEN = (httpx.HTTPError, httpx.StreamError, *_foreign)
"""How an exchange breaks; aiohttp's own errors are not all translated."""
