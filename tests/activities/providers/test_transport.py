"""Requests go through the proxy that the environment names, and carry nothing but what perdure gives them."""

from collections.abc import Iterator

import httpx
import pytest

from perdure.providers._http import _proxy, _RequestBody  # pyright: ignore[reportPrivateUsage]
from perdure.providers._transport import NewTransport, environment_proxy, fastest_transport, httpx_transport
from tests.activities.providers.conftest import MakeProvider
from tests.activities.providers.helpers import ask, fail
from tests.fakes.http import Connection, HttpServer, Request
from tests.fakes.openai_server import completion
from tests.fakes.replies import FakeReply

VENDOR = "http://vendor.example:81/v1"


@pytest.fixture(params=[httpx_transport, fastest_transport], ids=["httpx", "aiohttp"])
def new_transport(request: pytest.FixtureRequest) -> NewTransport:
    return request.param


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    _proxy.cache_clear()
    yield
    _proxy.cache_clear()


async def answer(_: Request, connection: Connection) -> None:
    await connection.answer_json(200, completion(FakeReply(text="hello"), "m"), set_cookie="session=1; Path=/")


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
async def test_the_proxy_of_the_environment_is_asked(
    name: str, make_provider: MakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with HttpServer(answer) as proxy:
        address = proxy.url if name != "ALL_PROXY" else proxy.url.removeprefix("http://")
        monkeypatch.setenv(name, address)
        reply = await ask(make_provider("openai", VENDOR))
    assert reply.message.text == "hello"
    assert [request.path for request in proxy.requests] == [f"{VENDOR}/chat/completions"]
    assert proxy.requests[0].headers["host"] == "vendor.example:81"


@pytest.mark.parametrize("exempt", ["127.0.0.1", "*", "other.example, 127.0.0.1"])
async def test_no_proxy_is_kept_to(
    exempt: str, make_provider: MakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with HttpServer(answer) as proxy, HttpServer(answer) as vendor:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.setenv("NO_PROXY", exempt)
        await ask(make_provider("openai", vendor.url))
    assert (len(proxy.requests), len(vendor.requests)) == (0, 1)


@pytest.mark.parametrize("exempt", ["::1", "[::1]", "[::1]:81"])
def test_an_ipv6_address_can_be_exempt(exempt: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.example")
    monkeypatch.setenv("NO_PROXY", exempt)
    assert environment_proxy(httpx.URL("http://[::1]:81/v1")) is None
    assert environment_proxy(httpx.URL(VENDOR)) == "http://proxy.example"


@pytest.mark.parametrize("exempt", ["vendor.example", "vendor.example:81", ".example", "x, http://vendor.example"])
def test_a_host_is_exempt_as_people_write_it(exempt: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.example")
    monkeypatch.setenv("NO_PROXY", exempt)
    assert environment_proxy(httpx.URL(VENDOR)) is None
    assert environment_proxy(httpx.URL("http://vendor.elsewhere")) == "http://proxy.example"


async def test_a_body_goes_out_in_groups_of_its_pieces() -> None:
    pieces = [b"a" * 99, *[b"," for _ in range(10)], b"b" * 3_000_000, b"c" * 60_000, b"d" * 60_000, b"e"]
    body = _RequestBody(list(pieces))
    assert not body.is_sent
    groups = [group async for group in body]
    assert b"".join(groups) == b"".join(pieces)
    assert [len(group) for group in groups] == [3_000_109, 120_000, 1]
    assert (body.is_sent, body.size) == (True, 3_120_110)


async def test_a_proxy_that_is_not_there_is_no_fault_of_the_vendor(
    make_provider: MakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    error = await fail(make_provider("openai", VENDOR))
    assert error.kind == "transient"
    assert "can't reach the server" in error.message
    assert not error.may_be_billed


@pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:1", "gopher://127.0.0.1:1"])
async def test_a_kind_of_proxy_that_nobody_speaks_is_said(
    proxy: str, make_provider: MakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALL_PROXY", proxy)
    error = await fail(make_provider("openai", VENDOR))
    assert error.kind == "fatal"
    assert proxy.partition(":")[0].removesuffix("5") in error.message.lower()


async def test_no_cookie_goes_from_one_call_to_the_next(make_provider: MakeProvider) -> None:
    async with HttpServer(answer) as server:
        provider = make_provider("openai", f"http://localhost:{server.port}")  # addresses have no cookies
        for _ in range(2):
            await ask(provider)
    assert len(server.requests) == 2
    assert ["cookie" in request.headers for request in server.requests] == [False, False]
