"""Activity side; owns the choice of an HTTP transport, and of a proxy.

It is aiohttp's where that is installed, by the extra `fast`: a streamed call takes a third of the CPU then. The
vendors' own packages offer it too (`openai[aiohttp]`, `anthropic[aiohttp]`).

It is a transport rather than a client: a client looks for cookies, redirects and credentials of its own, none of
which a call of a model may have, at a third of the request's cost.
"""

import ssl
from collections.abc import Callable
from urllib.request import getproxies

import httpx

NewTransport = Callable[[ssl.SSLContext, httpx.Limits, str | None], httpx.AsyncBaseTransport]
"""Makes a transport; the last argument is the address of a proxy, if there is one."""


def httpx_transport(tls: ssl.SSLContext, limits: httpx.Limits, proxy: str | None) -> httpx.AsyncBaseTransport:
    """Return httpx's own transport."""
    return httpx.AsyncHTTPTransport(verify=tls, limits=limits, proxy=proxy)


try:
    import aiohttp
    from httpx_aiohttp import AiohttpTransport
except ImportError:
    _foreign: tuple[type[Exception], ...] = ()
    fastest_transport = httpx_transport
else:
    _foreign = (aiohttp.ClientError,)

    def fastest_transport(
        tls: ssl.SSLContext, limits: httpx.Limits, proxy: str | None
    ) -> httpx.AsyncBaseTransport:
        """Return the fastest transport that is installed."""
        if proxy is not None and not proxy.startswith(("http://", "https://")):
            return httpx_transport(tls, limits, proxy)  # aiohttp knows no SOCKS

        def new_session() -> aiohttp.ClientSession:
            connector = aiohttp.TCPConnector(ssl=tls, limit=0, keepalive_timeout=limits.keepalive_expiry)
            return aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())

        address = None if proxy is None else httpx.Proxy(proxy)
        return AiohttpTransport(verify=tls, limits=limits, proxy=address, client=new_session)


BROKEN = (httpx.HTTPError, httpx.StreamError, *_foreign)
"""How an exchange breaks; aiohttp's own errors are not all translated."""


def environment_proxy(url: httpx.URL) -> str | None:
    """Return the proxy that HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY name for an address; None for none."""
    proxies = getproxies()
    proxy = proxies.get(url.scheme) or proxies.get("all")
    if not proxy or _is_exempt(url, proxies.get("no", "")):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


def _is_exempt(url: httpx.URL, entries: str) -> bool:
    """Say whether NO_PROXY names an address: by `*`, its host, or a domain above that; each may have a port."""
    names = {entry.strip().rpartition("://")[2].lstrip(".") for entry in entries.lower().split(",")} - {""}
    hosts = (url.host, f"[{url.host}]", url.netloc.decode("ascii"))
    return "*" in names or any(host == name or host.endswith(f".{name}") for host in hosts for name in names)
