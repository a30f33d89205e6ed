"""Sending an HTTP operation, and telling the model what came of it. Activity side.

Secrets are read here, at each call; what comes back is told without them.
"""

import asyncio
import base64
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any, NoReturn
from urllib.parse import quote

import httpx

from perdure._secrets import read_secret
from perdure.agents.context import ToolContext
from perdure.errors import ToolError, ToolRetry
from perdure.providers._decode import BoundedBody, BrokenBodyError
from perdure.providers._redact import HIDDEN
from perdure.tools._operation import READING, Operation
from perdure.tools._page import decode
from perdure.tools._statuses import PASSING, REDIRECTS
from perdure.tools._writing import Written, write

_MAX_REDIRECTS = 5
_LONGEST_WAIT = timedelta(minutes=5)
_MAX_ERROR_BYTES = 2000
_TEXTUAL = ("json", "xml", "yaml", "javascript", "x-www-form-urlencoded", "csv", "ndjson")
_HEADERS = {
    "accept": "application/json, text/*;q=0.9, */*;q=0.5",
    "accept-encoding": "gzip, deflate",
    "user-agent": "perdure",
}
_UNKNOWN = "Whether it took effect is not known: look before you send it again."
_SHORTEST_SECRET = 4
_TOLD_HEADERS = ("content-type", "content-length", "etag", "last-modified", "location", "allow")


async def send(operation: Operation, arguments: Mapping[str, Any], context: ToolContext) -> str:
    """Send the request that a call asks for, and return what the service answered.

    Raises:
        ToolRetry: The service refused it, or it can't be sent so; the text is for the model.
        ToolError: The service can't be reached or is busy (retryable where the operation is repeatable), or the
            outcome is unknown (not retryable).
    """
    written = write(operation, arguments)
    secrets = _sign(operation, written)
    if operation.idempotency_header and operation.method not in READING:
        written.headers[operation.idempotency_header] = context.idempotency_key
    try:
        async with asyncio.timeout(operation.total_seconds):
            return _hide(await _exchange(operation, written, context.http), secrets)
    except TimeoutError:
        _broken(operation, f"no complete answer within {operation.total_seconds:g} seconds")
    except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
        text = _hide(str(error) or type(error).__name__, secrets)
        raise ToolError(f"{_host(operation)} can't be reached: {text}.", is_retryable=True) from None
    except (httpx.UnsupportedProtocol, httpx.LocalProtocolError, httpx.InvalidURL) as error:
        raise ToolRetry(f"The request can't be sent: {_hide(str(error), secrets)}.") from None
    except (httpx.HTTPError, BrokenBodyError) as error:
        _broken(operation, _hide(str(error) or type(error).__name__, secrets))
    except ToolRetry as error:
        raise ToolRetry(_hide(str(error), secrets)) from None


def _broken(operation: Operation, reason: str) -> NoReturn:
    text = f"The answer of {_host(operation)} did not arrive: {reason}."
    if operation.is_repeatable:
        raise ToolError(text, is_retryable=True)
    raise ToolError(f"{text} {_UNKNOWN}", is_retryable=False, outcome="unknown")


async def _exchange(operation: Operation, written: Written, client: httpx.AsyncClient) -> str:
    url = httpx.URL(written.url)
    for _ in range(_MAX_REDIRECTS + 1):
        request = httpx.Request(
            operation.method,
            url,
            headers={**_HEADERS, **written.headers},
            content=written.content,
            extensions={"timeout": httpx.Timeout(operation.total_seconds).as_dict()},
        )
        response = await client.send(request, stream=True, follow_redirects=False)
        try:
            target = _redirect(operation, url, response)
            if target is None:
                return await _told(operation, response)
        finally:
            await response.aclose()
        url = target
    raise ToolRetry(f"{_host(operation)} redirects more than {_MAX_REDIRECTS} times.")


def _redirect(operation: Operation, url: httpx.URL, response: httpx.Response) -> httpx.URL | None:
    """Return where to go on: only a reading call does, at the same origin, since it carries credentials."""
    if response.status_code not in REDIRECTS or "location" not in response.headers:
        return None
    target = url.join(response.headers["location"])
    if operation.method not in READING:
        raise ToolRetry(f"HTTP {response.status_code}: a redirect, which {operation.method} does not follow.")
    if _origin(target) != _origin(url):
        raise ToolRetry(f"HTTP {response.status_code}: a redirect to another origin, which is not followed.")
    return target


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port


async def _told(operation: Operation, response: httpx.Response) -> str:
    status = response.status_code
    if status in PASSING:
        if operation.is_repeatable:
            text = f"{_host(operation)} answered with HTTP {status}."
            raise ToolError(text, is_retryable=True, next_retry_delay=_retry_after(response))
        if status != 429:
            body, _ = await _body(response, _MAX_ERROR_BYTES)
            text = f"{_line(response)}. {_UNKNOWN}\n{body}"
            raise ToolError(text, is_retryable=False, outcome="unknown")
    if status >= 400:
        body, is_cut = await _body(response, _MAX_ERROR_BYTES)
        raise ToolRetry(f"{_line(response)}\n{body}{' …' if is_cut else ''}".strip())
    if operation.method in ("HEAD", "OPTIONS"):
        found = [f"{name}: {response.headers[name]}" for name in _TOLD_HEADERS if name in response.headers]
        return "\n".join([_line(response), *found])
    body, is_cut = await _body(response, operation.max_result_bytes)
    notice = f"\n[cut by perdure after {operation.max_result_bytes} bytes; ask for less, or for a page]"
    return f"{body}{notice if is_cut else ''}" if body else _line(response)


def _line(response: httpx.Response) -> str:
    known = {status.value for status in HTTPStatus}
    phrase = f" {HTTPStatus(response.status_code).phrase}" if response.status_code in known else ""
    return f"HTTP {response.status_code}{phrase}"


async def _body(response: httpx.Response, max_bytes: int) -> tuple[str, bool]:
    """Return the text of a body, and whether it was cut."""
    kind = response.headers.get("content-type", "").split(";")[0].strip().lower()
    if "/" in kind and not kind.startswith("text/") and not any(word in kind for word in _TEXTUAL):
        return f"[{kind}, {response.headers.get('content-length', 'unknown')} bytes: not shown]", False
    body = BoundedBody(response, max_bytes=max_bytes, is_cut_off=True)
    data = b"".join([piece async for piece in body])
    return decode(data, response.charset_encoding or "", is_html=False), body.was_cut


def _retry_after(response: httpx.Response) -> timedelta | None:
    text = response.headers.get("retry-after", "").strip()
    if text.isdecimal():
        return min(timedelta(seconds=min(int(text), 10**6)), _LONGEST_WAIT)
    try:
        at = parsedate_to_datetime(text)
    except ValueError:
        return None
    wait = at.replace(tzinfo=at.tzinfo or UTC) - datetime.now(UTC)
    return max(timedelta(0), min(wait, _LONGEST_WAIT))


def _sign(operation: Operation, written: Written) -> list[str]:
    """Add the credentials to a request, and return the texts that must not be told."""
    secrets: list[str] = []
    for credential in operation.auth:
        value = _read(credential.variable)
        secrets.append(value)
        if credential.password_variable:
            password = _read(credential.password_variable)
            token = base64.b64encode(f"{value}:{password}".encode()).decode()
            secrets += [password, token]
            written.headers["authorization"] = f"Basic {token}"
        elif credential.query:
            written.add_query(credential.query, value)
        elif credential.cookie:
            written.add_cookie(credential.cookie, value)
        elif credential.header:
            written.headers[credential.header] = value
        else:
            written.headers["authorization"] = f"{credential.scheme} {value}".strip()
    return secrets


def _read(variable: str) -> str:
    value = read_secret(variable)
    if not value:
        raise ToolError(
            f"The environment variable {variable} is not set on this worker: set it, or {variable}_FILE, there. "
            "The call was not made.",
            is_retryable=False,
        )
    if not value.isascii() or not value.isprintable():
        raise ToolError(f"The environment variable {variable} holds what no header can.", is_retryable=False)
    return value


def _hide(text: str, secrets: list[str]) -> str:
    for secret in sorted({*secrets, *(quote(each, safe="") for each in secrets)}, key=len, reverse=True):
        if len(secret) >= _SHORTEST_SECRET:
            text = text.replace(secret, HIDDEN)
    return text


def _host(operation: Operation) -> str:
    return httpx.URL(operation.base_url).host or operation.base_url
