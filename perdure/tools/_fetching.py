"""Fetching a page that a model asked for, from public addresses only. Activity side.

The host is resolved here, once for each request, and the request goes to the address that was checked, under the
host's name (Host, SNI and the certificate): a name can't be resolved to something else in between.
"""

import asyncio
import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import httpx

from perdure.errors import ToolError, ToolRetry
from perdure.providers._decode import BoundedBody, BrokenBodyError
from perdure.tools._addresses import why_refused
from perdure.tools._page import decode, page_text
from perdure.tools._statuses import PASSING, REDIRECTS

_HTML = frozenset({"text/html", "application/xhtml+xml"})
_TEXTUAL = ("json", "xml", "yaml", "javascript", "ecmascript", "x-www-form-urlencoded", "toml", "graphql", "rtf")
_PORTS = {"http": 80, "https": 443}
_MAX_TRIED = 3
"""Addresses of a host that are tried in turn."""
_CONNECT_SECONDS = 10.0
_MAX_ERROR_BYTES = 2000
_HEADERS = {
    "accept": "text/html,application/xhtml+xml,text/*;q=0.9,application/json;q=0.9,*/*;q=0.5",
    "accept-encoding": "gzip, deflate",
    "user-agent": "perdure",
}


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """What a fetch may do."""

    allowed: frozenset[str]
    """Hosts, or host:port, whose address isn't checked; in lower case."""
    total_seconds: float
    max_bytes: int
    max_redirects: int


async def fetch_text(url: str, bounds: Bounds) -> str:
    """Return the text of a page, after a line that says where it came from.

    Raises:
        ToolRetry: It can't be fetched; the text says why, for the model.
        ToolError: The server could not be reached, or was busy. Retryable.
    """
    try:
        async with asyncio.timeout(bounds.total_seconds):
            return await _follow(url, bounds)
    except TimeoutError:
        raise ToolRetry(f"The page was not there within {bounds.total_seconds:g} seconds.") from None


async def _follow(url: str, bounds: Bounds) -> str:
    target = _parse(url)
    for _ in range(bounds.max_redirects + 1):
        addresses = await _checked_addresses(target, bounds)
        outcome = await _get(target, addresses, bounds)
        if isinstance(outcome, str):
            return outcome
        target = outcome
    raise ToolRetry(f"{url} redirects more than {bounds.max_redirects} times.")


def _parse(url: str) -> httpx.URL:
    try:
        target = httpx.URL(url.strip())
    except httpx.InvalidURL as error:
        raise ToolRetry(f"That is no URL: {error}.") from None
    if target.scheme not in _PORTS or not target.host:
        raise ToolRetry("Only addresses that begin with http:// or https:// and name a host can be fetched.")
    if target.userinfo:
        raise ToolRetry("The address holds a user name or password: leave it out.")
    return target


async def _checked_addresses(target: httpx.URL, bounds: Bounds) -> list[str]:
    """Return what the host resolves to, where all of it may be reached."""
    host = target.raw_host.decode("ascii").strip("[]")
    port = target.port or _PORTS[target.scheme]
    name = host.lower().rstrip(".")
    found = await _resolve(host, port)
    if {name, f"{name}:{port}", f"[{name}]:{port}"} & bounds.allowed:
        return found
    for address in found:
        reason = why_refused(address)
        if reason:
            raise ToolRetry(
                f"{host} is {reason}: only public addresses can be fetched. Do not try it in other ways."
            )
    return found


async def _resolve(host: str, port: int) -> list[str]:
    try:
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError, ValueError):
        raise ToolRetry(f"There is no host {host!r}.") from None
    addresses = list(dict.fromkeys(str(address[0]) for *_, address in found))
    if not addresses:
        raise ToolRetry(f"There is no host {host!r}.")
    return addresses


async def _get(target: httpx.URL, addresses: Sequence[str], bounds: Bounds) -> str | httpx.URL:
    """Return the text of the page, or where it redirects to."""
    reason = ""
    for address in addresses[:_MAX_TRIED]:
        try:
            return await _exchange(target, address, bounds)
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            reason = str(error) or type(error).__name__
        except (BrokenBodyError, httpx.HTTPError, httpx.InvalidURL) as error:
            raise ToolRetry(f"{target.host} gave no usable answer: {error or type(error).__name__}.") from None
    raise ToolError(f"{target.host} can't be reached: {reason}.", is_retryable=True)


async def _exchange(target: httpx.URL, address: str, bounds: Bounds) -> str | httpx.URL:
    request = httpx.Request(
        "GET",
        target.copy_with(host=address, fragment=None),
        headers={"host": target.netloc.decode("ascii"), **_HEADERS},
        extensions={
            "sni_hostname": target.raw_host.decode("ascii").strip("[]").rstrip("."),
            "timeout": httpx.Timeout(bounds.total_seconds, connect=_CONNECT_SECONDS).as_dict(),
        },
    )
    # The transport itself, rather than a client: no proxy, no .netrc, no cookie, no redirect of its own.
    async with httpx.AsyncHTTPTransport(verify=_tls(), trust_env=False) as transport:
        response = await transport.handle_async_request(request)
        response.request = request
        try:
            return await _read(target, response, bounds)
        finally:
            await response.aclose()


@cache
def _tls() -> ssl.SSLContext:
    """Return the certificates to trust; reading them takes 20 ms."""
    return httpx.create_ssl_context()


async def _read(target: httpx.URL, response: httpx.Response, bounds: Bounds) -> str | httpx.URL:
    status = response.status_code
    if status in REDIRECTS and "location" in response.headers:
        return _parse(str(target.join(response.headers["location"])))
    shown = f"{target.scheme}://{target.netloc.decode('ascii')}{target.path}"
    if status in PASSING:
        raise ToolError(f"{shown} answered with HTTP {status}.", is_retryable=True)
    if not response.is_success:
        raise ToolRetry(f"{shown} answered with HTTP {status}.{await _beginning(response)}")
    kind = response.headers.get("content-type", "").split(";")[0].strip().lower()
    if kind and not kind.startswith("text/") and not any(word in kind for word in _TEXTUAL):
        raise ToolRetry(f"{shown} is {kind}: only text can be fetched.")
    body = b"".join([piece async for piece in BoundedBody(response, max_bytes=bounds.max_bytes)])
    if b"\0" in body[:8192] and not body.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise ToolRetry(f"{shown} is binary: only text can be fetched.")
    # Parsing a long page takes a while: not on the loop that all calls of the worker share.
    text = await asyncio.to_thread(_text, body, response.charset_encoding or "", kind, str(target))
    return f"{shown}\n\n{text}"


def _text(body: bytes, charset: str, kind: str, base: str) -> str:
    is_html = kind in _HTML or (not kind and body.lstrip()[:1] == b"<")
    text = decode(body, charset, is_html=is_html)
    try:
        return page_text(text, base=base) if is_html else text
    except AssertionError:  # the parser's, at declarations that make no sense
        return text


async def _beginning(response: httpx.Response) -> str:
    """Return the beginning of an error's text, where it is one."""
    if not response.headers.get("content-type", "").startswith(("text/plain", "application/json")):
        return ""
    try:
        body = b"".join([piece async for piece in BoundedBody(response, max_bytes=_MAX_ERROR_BYTES)])
    except BrokenBodyError:
        return ""
    return " " + body.decode("utf-8", errors="replace")
