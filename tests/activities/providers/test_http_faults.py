"""Whatever an endpoint does, a call ends soon, with an error that says what to do and shows no key."""

import asyncio
import gzip
import json
import socket
import time
import zlib
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from functools import cache

import pytest

from perdure.errors import ModelCallError
from perdure.providers._transport import NewTransport, fastest_transport, httpx_transport
from perdure.providers.base import ModelReply
from tests.activities.providers.conftest import MakeProvider
from tests.activities.providers.helpers import KEY, ask, fail, ignore, request_of
from tests.fakes import anthropic_server, openai_server
from tests.fakes.http import Connection, HttpServer, Request, Script, event, hang
from tests.fakes.replies import FakeReply

REPLY = FakeReply(text="Hello there, how are you?")
PROTOCOLS = ("openai", "anthropic")
SHORT = timedelta(seconds=0.3)

pytestmark = pytest.mark.parametrize("protocol", PROTOCOLS)


@pytest.fixture(params=[httpx_transport, fastest_transport], ids=["httpx", "aiohttp"])
def new_transport(request: pytest.FixtureRequest) -> NewTransport:
    return request.param


def stream_of(protocol: str) -> list[bytes]:
    if protocol == "openai":
        return [*(event(chunk) for chunk in openai_server.chunks(REPLY, "m")), event("[DONE]")]
    return [event(each, each["type"]) for each in anthropic_server.events(REPLY, "m")]


def whole_of(protocol: str) -> bytes:
    whole = openai_server.completion if protocol == "openai" else anthropic_server.message
    return json.dumps(whole(REPLY, "m")).encode()


def answering(status: int, value: object, **headers: str) -> Script:
    async def script(_: Request, connection: Connection) -> None:
        await connection.answer_json(status, value, **headers)

    return script


@cache
def make_bomb() -> bytes:
    packer = zlib.compressobj(wbits=31)
    return b"".join(packer.compress(bytes(2**20)) for _ in range(64)) + packer.flush()


def error_body(protocol: str, text: str, *, kind: str = "", code: str | None = None) -> dict[str, object]:
    if protocol == "openai":
        return openai_server.error(text, code=code, kind=kind)
    return anthropic_server.error(kind or "api_error", text)


async def failed(
    make: MakeProvider, protocol: str, script: Script, **options: object
) -> tuple[ModelCallError, HttpServer]:
    async with HttpServer(script) as server:
        error = await fail(make(protocol, server.url), **options)
    return error, server


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "fatal"),
        (401, "fatal"),
        (402, "fatal"),
        (403, "fatal"),
        (404, "fatal"),
        (408, "transient"),
        (409, "transient"),
        (413, "context_too_long"),
        (418, "fatal"),
        (422, "fatal"),
        (429, "rate_limited"),
        (500, "transient"),
        (501, "fatal"),
        (502, "transient"),
        (503, "transient"),
        (504, "transient"),
        (529, "transient"),
        (302, "fatal"),
    ],
)
async def test_each_status_has_its_kind(
    make_provider: MakeProvider, protocol: str, status: int, kind: str
) -> None:
    error, server = await failed(
        make_provider, protocol, answering(status, {"error": {"message": "Something."}}, location="/elsewhere")
    )
    assert (error.kind, error.status_code, error.non_retryable) == (
        kind,
        status,
        kind in ("fatal", "context_too_long"),
    )
    assert error.message.startswith(f"fake answered {status}: Something.")
    assert error.may_be_billed is (status in (502, 504))
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("headers", "least", "most"),
    [
        ({"retry_after": "7"}, 7, 7),
        ({"retry_after": "0.25"}, 0.25, 0.25),
        ({"retry_after_ms": "1500", "retry_after": "9"}, 1.5, 1.5),
        ({"retry_after": format_datetime(datetime.now(UTC) + timedelta(seconds=590), usegmt=True)}, 200, 590),
        ({"retry_after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0, 0),
        ({"retry_after": "-5"}, 0, 0),
        ({"retry_after": "999999999"}, 600, 600),
        ({"retry_after": "inf"}, 600, 600),
    ],
)
async def test_retry_after_is_read_and_capped(
    make_provider: MakeProvider, protocol: str, headers: dict[str, str], least: float, most: float
) -> None:
    body = error_body(protocol, "Slow down.", kind="rate_limit_error")
    error, _ = await failed(make_provider, protocol, answering(429, body, **headers))
    assert error.kind == "rate_limited"
    assert error.retry_after is not None
    assert least <= error.retry_after.total_seconds() <= most
    assert error.next_retry_delay == error.retry_after


@pytest.mark.parametrize("value", ["soon", "nan", ""])
async def test_a_senseless_retry_after_is_ignored(make_provider: MakeProvider, protocol: str, value: str) -> None:
    error, _ = await failed(make_provider, protocol, answering(503, {}, retry_after=value))
    assert (error.kind, error.retry_after) == ("transient", None)


@pytest.mark.parametrize(
    "text", [f"Wrong key: {KEY}.", f"Bearer {KEY}", f"{KEY[:10]}********{KEY[-4:]}", KEY[:14]]
)
async def test_an_echoed_key_is_hidden(make_provider: MakeProvider, protocol: str, text: str) -> None:
    error, _ = await failed(make_provider, protocol, answering(401, error_body(protocol, text)))
    assert "***" in error.message
    assert KEY[:10] not in error.message
    assert KEY[-4:] not in error.message
    assert "FAKE_KEY" in error.message


@pytest.mark.parametrize(
    ("status", "text", "kind", "code"),
    [
        (429, "You exceeded your current quota, please check your plan and billing details.", "", None),
        (429, "No.", "insufficient_quota", "insufficient_quota"),
        (400, "Your credit balance is too low to access the API.", "invalid_request_error", None),
        (400, "Pay first.", "billing_error", "billing_hard_limit_reached"),
    ],
)
async def test_an_empty_account_is_fatal(
    make_provider: MakeProvider, protocol: str, status: int, text: str, kind: str, code: str | None
) -> None:
    body = error_body(protocol, text, kind=kind, code=code)
    error, _ = await failed(make_provider, protocol, answering(status, body, retry_after="3"))
    assert (error.kind, error.retry_after) == ("fatal", None)
    assert "billing" in error.message


@pytest.mark.parametrize(
    ("status", "text", "code"),
    [
        (400, "This model's maximum context length is 128000 tokens.", None),
        (400, "No.", "context_length_exceeded"),
        (400, "prompt is too long: 210000 tokens > 200000 maximum", None),
        (400, "input length and `max_tokens` exceed context limit: 190000 + 20000 > 200000", None),
        (400, "The input token count (2000000) exceeds the maximum number of tokens allowed (1048575).", None),
        (413, "Request exceeds the maximum size", None),
        (429, "Request too large for gpt-x on tokens per min (TPM): Limit 30000, Requested 40000.", None),
    ],
)
async def test_a_prompt_that_is_too_long_is_told_apart(
    make_provider: MakeProvider, protocol: str, status: int, text: str, code: str | None
) -> None:
    kind = "context_length_exceeded" if code and protocol == "anthropic" else "invalid_request_error"
    error, _ = await failed(
        make_provider, protocol, answering(status, error_body(protocol, text, kind=kind, code=code))
    )
    assert (error.kind, error.non_retryable) == ("context_too_long", True)


async def test_a_refused_connection_is_not_billed(make_provider: MakeProvider, protocol: str) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        error = await fail(make_provider(protocol, f"http://127.0.0.1:{unused.getsockname()[1]}"))
    assert (error.kind, error.may_be_billed, error.status_code) == ("transient", False, None)
    assert "can't reach" in error.message


async def test_an_unknown_host_is_not_billed(make_provider: MakeProvider, protocol: str) -> None:
    error = await fail(make_provider(protocol, "http://user:hunter2@nowhere.invalid"))
    assert (error.kind, error.may_be_billed) == ("transient", False)
    assert "hunter2" not in error.message


async def test_failing_tls_is_not_billed(make_provider: MakeProvider, protocol: str) -> None:
    async def no_tls(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"this is no TLS\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(no_tls, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        error = await fail(make_provider(protocol, f"https://127.0.0.1:{port}"))
    assert (error.kind, error.may_be_billed) == ("transient", False)


async def start_then(connection: Connection, protocol: str, then: Callable[[], object]) -> None:
    await connection.stream_head()
    for data in stream_of(protocol)[:3]:
        await connection.chunk(data)
    result = then()
    if isinstance(result, Awaitable):
        await result


async def reset_midway(request: Request, connection: Connection) -> None:
    await start_then(connection, _protocol(request), connection.reset)


async def close_midway(request: Request, connection: Connection) -> None:
    await start_then(connection, _protocol(request), connection.close)


async def end_midway(request: Request, connection: Connection) -> None:
    await start_then(connection, _protocol(request), connection.stream_end)


async def stall_midway(request: Request, connection: Connection) -> None:
    await start_then(connection, _protocol(request), connection.peer_left)


async def close_at_once(request: Request, connection: Connection) -> None:
    connection.close()


async def truncated_json(request: Request, connection: Connection) -> None:
    whole = whole_of(_protocol(request))
    await connection.answer(200, whole[: len(whole) // 2], connection="close")
    connection.close()


async def short_body(request: Request, connection: Connection) -> None:
    await connection.head(200, content_type="application/json", connection="close")
    await connection.send(whole_of(_protocol(request))[:-30])
    connection.close()


async def less_than_promised(request: Request, connection: Connection) -> None:
    await connection.answer(200, whole_of(_protocol(request))[:-30], content_length="99999")
    connection.close()


async def web_page(request: Request, connection: Connection) -> None:
    await connection.answer(200, b"<html>Log in first</html>", content_type="text/html")


async def broken_event(request: Request, connection: Connection) -> None:
    await connection.stream_head()
    await connection.chunk(b"data: {broken\n\n")
    await connection.stream_end()


async def nested_too_deeply(request: Request, connection: Connection) -> None:
    await connection.answer(200, b"[" * 200_000)


async def no_choices(request: Request, connection: Connection) -> None:
    await connection.answer_json(200, {"choices": [], "usage": {}})


async def empty_stream(request: Request, connection: Connection) -> None:
    await connection.stream_head()
    await connection.stream_end()


async def damaged_gzip(request: Request, connection: Connection) -> None:
    await connection.answer(200, b"this is no gzip", content_encoding="gzip")


async def half_a_gzip(request: Request, connection: Connection) -> None:
    body = gzip.compress(whole_of(_protocol(request)))
    await connection.answer(200, body[:-20], content_encoding="gzip")


async def unknown_encoding(request: Request, connection: Connection) -> None:
    await connection.answer(200, b"x", content_encoding="br")


def _protocol(request: Request) -> str:
    return "anthropic" if request.path.endswith("/v1/messages") else "openai"


@pytest.mark.parametrize(
    ("script", "text"),
    [
        (reset_midway, "the connection broke"),
        (close_midway, "the connection broke"),
        (end_midway, "the stream ended before the reply did"),
        (close_at_once, "the connection broke"),
        (truncated_json, "broken or truncated JSON"),
        (short_body, "broken or truncated JSON"),
        (less_than_promised, "the connection broke"),
        (web_page, "'text/html' instead of JSON"),
        (broken_event, "broken or truncated JSON"),
        (nested_too_deeply, "broken or truncated JSON"),
        (no_choices, "an answer without"),
        (empty_stream, "the stream ended before the reply did"),
        (damaged_gzip, "damaged"),
        (half_a_gzip, "ended early"),
        (unknown_encoding, "'br'"),
    ],
)
async def test_half_an_answer_is_transient_and_perhaps_billed(
    make_provider: MakeProvider, protocol: str, script: Script, text: str
) -> None:
    error, _ = await failed(make_provider, protocol, script)
    assert (error.kind, error.may_be_billed) == ("transient", True)
    assert text in error.message


@pytest.mark.parametrize("script", [hang, stall_midway])
async def test_a_stall_is_noticed(make_provider: MakeProvider, protocol: str, script: Script) -> None:
    started = time.monotonic()
    error, _ = await failed(make_provider, protocol, script, stall_timeout=SHORT)
    assert time.monotonic() - started < 1.5
    assert (error.kind, error.may_be_billed) == ("transient", True)
    assert "nothing was received for 0.3 s" in error.message


async def test_silence_is_no_stall_where_nothing_is_streamed(make_provider: MakeProvider, protocol: str) -> None:
    async def think(_: Request, connection: Connection) -> None:
        await asyncio.sleep(0.4)
        await connection.answer(200, whole_of(protocol))

    async with HttpServer(think) as server:
        reply = await ask(make_provider(protocol, server.url), stall_timeout=SHORT, stream=False)
    assert reply.message.text == REPLY.text


async def test_a_slow_drip_ends_at_the_deadline(make_provider: MakeProvider, protocol: str) -> None:
    async def drip(_: Request, connection: Connection) -> None:
        await connection.stream_head()
        while True:
            await connection.chunk(b":\n")
            await asyncio.sleep(0.1)

    started = time.monotonic()
    error, _ = await failed(make_provider, protocol, drip, timeout=timedelta(seconds=0.5))
    assert 0.4 < time.monotonic() - started < 1.5
    assert (error.kind, error.may_be_billed) == ("transient", True)
    assert "no complete answer within 0.5 s" in error.message


async def test_dripping_headers_end_at_the_deadline(make_provider: MakeProvider, protocol: str) -> None:
    async def drip(_: Request, connection: Connection) -> None:
        await connection.send(b"HTTP/1.1 200 OK\r\nx-slow: ")
        while True:
            await connection.send(b"a")
            await asyncio.sleep(0.1)

    error, _ = await failed(make_provider, protocol, drip, timeout=timedelta(seconds=0.5))
    assert "no complete answer" in error.message


@pytest.mark.parametrize(
    ("kind", "is_announced"),
    [("text/event-stream", False), ("application/json", False), ("application/json", True)],
)
async def test_fifty_megabytes_fail_quickly(
    make_provider: MakeProvider, protocol: str, kind: str, is_announced: bool
) -> None:
    piece = b"data: " + b" " * 65_000 + b"\n"

    async def flood(request: Request, connection: Connection) -> None:
        length = {"content_length": str(50 * 2**20)} if is_announced else {"connection": "close"}
        await connection.head(200, content_type=kind, **length)
        for _ in range(50 * 2**20 // len(piece)):
            await connection.send(piece)
        connection.close()

    started = time.monotonic()
    error, _ = await failed(make_provider, protocol, flood)
    assert time.monotonic() - started < 4
    assert (error.kind, error.may_be_billed) == ("transient", True)
    assert "longer than 16,777,216 bytes" in error.message


@pytest.mark.parametrize("status", [200, 500])
async def test_a_gzip_bomb_is_defused(make_provider: MakeProvider, protocol: str, status: int) -> None:
    bomb = make_bomb()

    async def throw(_: Request, connection: Connection) -> None:
        await connection.answer(status, bomb, content_encoding="gzip")

    started = time.monotonic()
    error, _ = await failed(make_provider, protocol, throw)
    assert time.monotonic() - started < 4
    assert error.kind == "transient"
    assert len(error.message) < 600


async def test_an_error_page_that_never_ends_is_still_an_error(make_provider: MakeProvider, protocol: str) -> None:
    async def answer(_: Request, connection: Connection) -> None:
        await connection.head(503, content_type="text/html", connection="close")
        await connection.send(b"<html><title>Busy, sorry</title>" + b"x" * 200_000)
        await connection.peer_left()

    error, _ = await failed(make_provider, protocol, answer)
    assert (error.kind, error.status_code) == ("transient", 503)
    assert "Busy, sorry" in error.message


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("overloaded_error", "transient"),
        ("api_error", "transient"),
        ("server_error", "transient"),
        ("something_new", "transient"),
        ("rate_limit_error", "rate_limited"),
        ("invalid_request_error", "fatal"),
        ("insufficient_quota", "fatal"),
        ("context_length_exceeded", "context_too_long"),
    ],
)
async def test_an_error_within_a_stream_is_classified(
    make_provider: MakeProvider, protocol: str, kind: str, expected: str
) -> None:
    async def script(request: Request, connection: Connection) -> None:
        await connection.stream_head()
        for data in stream_of(protocol)[:3]:
            await connection.chunk(data)
        await connection.chunk(
            event({"type": "error", "error": {"type": kind, "message": f"Sorry. {KEY}"}}, "error")
        )
        await connection.stream_end()

    error, _ = await failed(make_provider, protocol, script)
    assert (error.kind, error.may_be_billed) == (expected, True)
    assert "Sorry." in error.message


async def test_odd_but_valid_streams_are_read(make_provider: MakeProvider, protocol: str) -> None:
    async def script(_: Request, connection: Connection) -> None:
        await connection.head(200, content_type="text/event-stream", connection="close")
        await connection.send(b": keep-alive\r\n\r\nretry: 100\r\n\r\nid: 7\r\n\r\n")
        for data in stream_of(protocol):
            odd = data.replace(b"{", b"{\ndata: ", 1) if b"{" in data else data
            for byte in odd.replace(b"\n", b"\r\n").partition(b":"):
                await connection.send(byte)
            await connection.send(b": ping\r\n\r\n")
        connection.close()

    async with HttpServer(script) as server:
        reply = await ask(make_provider(protocol, server.url))
    assert reply.message.text == REPLY.text
    assert reply.usage.total_tokens == 27


async def test_a_whole_answer_is_taken_where_a_stream_was_asked_for(
    make_provider: MakeProvider, protocol: str
) -> None:
    async def script(request: Request, connection: Connection) -> None:
        assert request.json()["stream"] is True
        await connection.answer(200, gzip.compress(whole_of(protocol)), content_encoding="gzip")

    async with HttpServer(script) as server:
        reply = await ask(make_provider(protocol, server.url))
    assert reply.message.text == REPLY.text


async def test_cancelling_closes_the_connection_at_once(make_provider: MakeProvider, protocol: str) -> None:
    left = asyncio.Event()
    seen: list[str] = []
    begun = asyncio.Event()

    async def script(request: Request, connection: Connection) -> None:
        await start_then(connection, protocol, connection.peer_left)
        left.set()

    def listen(text: str) -> None:
        seen.append(text)
        begun.set()

    async with HttpServer(script) as server:
        provider = make_provider(protocol, server.url)
        call: asyncio.Task[ModelReply] = asyncio.create_task(provider.call(request_of(provider), listen))
        await asyncio.wait_for(begun.wait() if protocol == "openai" else asyncio.sleep(0.1), 2)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await asyncio.wait_for(left.wait(), 1)


async def test_cancelling_before_the_answer_closes_the_connection(
    make_provider: MakeProvider, protocol: str
) -> None:
    arrived, left = asyncio.Event(), asyncio.Event()

    async def script(request: Request, connection: Connection) -> None:
        arrived.set()
        await connection.peer_left()
        left.set()

    async with HttpServer(script) as server:
        call = asyncio.create_task(ask(make_provider(protocol, server.url)))
        await asyncio.wait_for(arrived.wait(), 2)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await asyncio.wait_for(left.wait(), 1)


async def test_calls_share_a_connection(make_provider: MakeProvider, protocol: str) -> None:
    async def script(request: Request, connection: Connection) -> None:
        await connection.stream_head()
        for data in stream_of(protocol):
            await connection.chunk(data)
        await asyncio.sleep(0.01)  # the end of the body comes after the last event
        await connection.stream_end()

    async with HttpServer(script) as server:
        provider = make_provider(protocol, server.url)
        for _ in range(10):
            await ask(provider)
    # A call waits a moment for the end, and no longer: on a machine with much else to do some ends are missed.
    assert len(server.requests) == 10
    assert server.connections <= 5


async def test_a_body_left_open_after_the_last_event_holds_nobody_up(
    make_provider: MakeProvider, protocol: str
) -> None:
    async def script(request: Request, connection: Connection) -> None:
        await connection.stream_head()
        for data in stream_of(protocol):
            await connection.chunk(data)
        await connection.peer_left()

    async with HttpServer(script) as server:
        started = time.monotonic()
        reply = await ask(make_provider(protocol, server.url))
    assert time.monotonic() - started < 1
    assert reply.message.text == REPLY.text


async def test_a_hundred_calls_at_once(make_provider: MakeProvider, protocol: str) -> None:
    all_here = asyncio.Event()

    async def script(request: Request, connection: Connection) -> None:
        if len(server.requests) == 100:
            all_here.set()
        await all_here.wait()
        await connection.answer(200, whole_of(protocol))

    async with HttpServer(script) as server:
        provider = make_provider(protocol, server.url)
        request = request_of(provider)
        replies = await asyncio.gather(*(provider.call(request, ignore) for _ in range(100)))
    assert {reply.message.text for reply in replies} == {REPLY.text}
