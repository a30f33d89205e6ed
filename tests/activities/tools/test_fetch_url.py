"""`fetch_url` against servers on loopback: what is public is said by name, and a canary hears of nothing."""

import asyncio
import gzip
import socket
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from perdure import Tool, ToolRetry
from perdure.errors import InvalidToolError, ToolError
from perdure.tools import fetch_url
from perdure.tools._fetching import Bounds, fetch_text
from tests.fakes.http import Connection, HttpServer, Request

BOUNDS = Bounds(allowed=frozenset(), total_seconds=5, max_bytes=100_000, max_redirects=3)


async def page(request: Request, connection: Connection) -> None:
    await connection.answer(200, b"<h1>Hi</h1>", content_type="text/html")


@pytest.fixture
async def canary() -> AsyncIterator[HttpServer]:
    async with HttpServer(page) as server:
        yield server


def open_to(server: HttpServer, **changes: Any) -> Bounds:
    return replace(BOUNDS, allowed=frozenset({f"127.0.0.1:{server.port}"}), **changes)


HOSTILE = [
    "http://127.0.0.1:{port}/",
    "http://127.1:{port}/",
    "http://127.0.1:{port}/",
    "http://0:{port}/",
    "http://0.0.0.0:{port}/",
    "http://2130706433:{port}/",
    "http://017700000001:{port}/",
    "http://0177.0.0.1:{port}/",
    "http://0x7f000001:{port}/",
    "http://0x7f.0.0.1:{port}/",
    "http://0x7f.1:{port}/",
    "http://127.0.0.1.:{port}/",
    "http://localhost:{port}/",
    "http://LOCALHOST:{port}/",
    "http://localhost.:{port}/",
    "http://[::1]:{port}/",
    "http://[::]:{port}/",
    "http://[0:0:0:0:0:0:0:1]:{port}/",
    "http://[::ffff:127.0.0.1]:{port}/",
    "http://[::ffff:7f00:1]:{port}/",
    "http://[::127.0.0.1]:{port}/",
    "http://[64:ff9b::7f00:1]:{port}/",
    "http://[2002:7f00:1::]:{port}/",
    "http://user@127.0.0.1:{port}/",
    "http://user:pw@127.0.0.1:{port}/",
    "http://example.com@127.0.0.1:{port}/",
    "http://example.com:80@127.0.0.1:{port}/",
    "http://127.0.0.1:{port}#@example.com/",
    "http://127.0.0.1:{port}\\@example.com/",
    "http://\uff11\uff12\uff17.0.0.1:{port}/",
    "http://①②⑦.0.0.1:{port}/",
    "http://127。0。0。1:{port}/",
    "  http://127.0.0.1:{port}/  ",
    "HTTP://127.0.0.1:{port}/",
    "https://127.0.0.1:{port}/",
    "http:127.0.0.1:{port}/",
    "http:///127.0.0.1:{port}/",
    "//127.0.0.1:{port}/",
    "ftp://127.0.0.1:{port}/",
    "file:///etc/passwd",
    "gopher://127.0.0.1:{port}/_GET",
    "http://169.254.169.254/latest/meta-data/",
    "http://[fd00:ec2::254]/latest/meta-data/",
    "http://[fe80::1%25lo]:{port}/",
    "http://127.0.0.1:{port}\r\nHost: x/",
    "http://127.0.0.1%00.example.com:{port}/",
    "http://127.0.0.1:99999/",
    "",
]


@pytest.mark.parametrize("url", HOSTILE)
async def test_nothing_reaches_the_machine_itself(url: str, canary: HttpServer) -> None:
    with pytest.raises(ToolRetry):
        await fetch_text(url.format(port=canary.port), BOUNDS)
    assert canary.requests == []
    assert canary.connections == 0


@pytest.mark.parametrize("url", HOSTILE)
async def test_nor_does_a_redirect(url: str, canary: HttpServer) -> None:
    async def redirect(request: Request, connection: Connection) -> None:
        target = url.format(port=canary.port).strip().replace("\r\n", "%0d%0a").encode("utf-8").decode("latin-1")
        await connection.answer(302, b"", location=target)

    async with HttpServer(redirect) as server:
        with pytest.raises(ToolRetry):
            await fetch_text(f"http://127.0.0.1:{server.port}/", open_to(server))
        assert len(server.requests) >= 1
    assert canary.requests == []
    assert canary.connections == 0


async def test_what_is_allowed_by_name_is_fetched(canary: HttpServer) -> None:
    tool = fetch_url(allow=[f"127.0.0.1:{canary.port}"])
    text = await tool(f"http://127.0.0.1:{canary.port}/a?b=c#d", None)
    assert text == f"http://127.0.0.1:{canary.port}/a\n\n# Hi"
    assert canary.requests[0].path == "/a?b=c"
    assert canary.requests[0].headers["host"] == f"127.0.0.1:{canary.port}"


async def test_a_name_is_resolved_once_and_kept_to(canary: HttpServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A resolver that answers otherwise the second time would lead elsewhere."""
    asked: list[str] = []
    loop = asyncio.get_running_loop()
    real = loop.getaddrinfo

    async def rebinding(host: Any, port: Any, **options: Any) -> Sequence[Any]:
        if host != "rebind.example":
            return await real(host, port, **options)
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))] if len(asked) == 1 else []

    monkeypatch.setattr(loop, "getaddrinfo", rebinding)
    bounds = replace(BOUNDS, allowed=frozenset({"rebind.example"}))
    assert "# Hi" in await fetch_text(f"http://rebind.example:{canary.port}/", bounds)
    assert asked == ["rebind.example"]
    assert canary.requests[0].headers["host"] == f"rebind.example:{canary.port}"


async def test_one_private_address_among_public_ones_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    async def mixed(host: Any, port: Any, **options: Any) -> Sequence[Any]:
        return [(0, 0, 0, "", ("1.1.1.1", port)), (0, 0, 0, "", ("10.0.0.1", port))]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", mixed)
    with pytest.raises(ToolRetry, match="private address"):
        await fetch_text("http://mixed.example/", BOUNDS)


async def test_proxies_of_the_environment_are_no_way_round(
    canary: HttpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with HttpServer(page) as server:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{canary.port}")
        await fetch_text(f"http://127.0.0.1:{server.port}/", open_to(server))
        assert len(server.requests) == 1
    assert canary.connections == 0


async def told(body: bytes, bounds: dict[str, Any] | None = None, status: int = 200, **headers: str) -> str:
    async def answer(request: Request, connection: Connection) -> None:
        await connection.answer(status, body, **headers)

    async with HttpServer(answer) as server:
        try:
            text = await fetch_text(f"http://127.0.0.1:{server.port}/", open_to(server, **(bounds or {})))
            return text.partition("\n\n")[2]
        except (ToolRetry, ToolError) as error:
            return f"{type(error).__name__}: {error}"


async def test_bodies() -> None:
    assert await told(b'{"a": 1}', content_type="application/json") == '{"a": 1}'
    assert await told(gzip.compress(b"hello"), content_type="text/plain", content_encoding="gzip") == "hello"
    assert "image/png: only text" in await told(b"\x89PNG", content_type="image/png")
    assert "binary" in await told(b"a\0b", content_type="text/plain")
    assert "404. not here" in await told(b"not here", status=404, content_type="text/plain")
    assert (await told(b"", status=503)).startswith("ToolError")
    assert "nobody asked for" in await told(b"x", content_type="text/plain", content_encoding="br")


async def test_a_small_body_that_grows_is_refused() -> None:
    bomb = gzip.compress(b"\0" * 50_000_000)
    assert "longer than 100,000 bytes" in await told(bomb, content_type="text/html", content_encoding="gzip")
    assert "longer than 100,000 bytes" in await told(b"a" * 100_001, content_type="text/html")


async def test_the_time_is_bounded_in_all() -> None:
    async def drip(request: Request, connection: Connection) -> None:
        await connection.head(200, content_type="text/plain", content_length="1000")
        for _ in range(1000):
            await connection.send(b"x")
            await asyncio.sleep(0.05)

    async with HttpServer(drip) as server:
        with pytest.raises(ToolRetry, match=r"within 0\.4 seconds"):
            await fetch_text(f"http://127.0.0.1:{server.port}/", open_to(server, total_seconds=0.4))


async def test_redirects_have_an_end() -> None:
    async def loop(request: Request, connection: Connection) -> None:
        await connection.answer(302, b"", location="/again")

    async with HttpServer(loop) as server:
        with pytest.raises(ToolRetry, match="more than 3 times"):
            await fetch_text(f"http://127.0.0.1:{server.port}/", open_to(server))
        assert len(server.requests) == 4


def test_options_are_checked() -> None:
    for options in ({"allow": "host"}, {"allow": ["http://h/"]}, {"max_bytes": 0}, {"max_redirects": -1}):
        with pytest.raises(InvalidToolError):
            fetch_url(**options)  # pyright: ignore[reportArgumentType]
    with pytest.raises(InvalidToolError):
        fetch_url(timeout=timedelta(seconds=-10))


def test_two_agents_may_have_it() -> None:
    first, second = fetch_url(), fetch_url()
    assert isinstance(first, Tool)
    assert first.is_same(second)
    assert first.spec.read_only
    assert first.spec.idempotent
