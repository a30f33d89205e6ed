"""`http_tool`, and what every HTTP operation does with answers, credentials and faults."""

import gzip
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from functools import partial
from types import SimpleNamespace
from typing import Any, cast

import httpx
import pytest

from perdure import ToolContext, ToolRetry
from perdure.errors import InvalidToolError, ToolError, UserError
from perdure.tools import Credential, basic_auth, env, http_tool, openapi_tools
from tests.fakes.http import Connection, HttpServer, Request

SECRET = "hunter2 & co"
Script = Callable[[Request, Connection], Awaitable[None]]


@pytest.fixture
async def context() -> AsyncIterator[ToolContext]:
    async with httpx.AsyncClient() as client:
        yield cast("ToolContext", SimpleNamespace(http=client, idempotency_key="key-1"))


def answering(status: int, body: bytes = b"", **headers: str) -> Script:
    async def answer(request: Request, connection: Connection) -> None:
        await connection.answer(status, body, **headers)

    return answer


async def called(
    script: Script, context: ToolContext, method: str = "GET", /, *, path: str = "/a", **options: Any
) -> tuple[Any, list[Request]]:
    """Return what the tool gave or raised, and the requests that there were."""
    arguments = options.pop("arguments", {})
    async with HttpServer(script) as server:
        tool = http_tool("call", method, server.url + path, description="Call.", **options)
        try:
            told: Any = await tool.run(arguments, context)
        except (ToolRetry, ToolError) as error:
            told = error
        return told, server.requests


async def test_arguments_go_into_path_query_and_body(context: ToolContext) -> None:
    told, (request,) = await called(
        answering(200, b'{"ok":1}'),
        context,
        "POST",
        path="/orders/{order}?v=1",
        parameters={"dry": {"type": "boolean"}, "tags": {"type": "array", "items": {"type": "string"}}},
        optional=("tags",),
        body={"type": "object"},
        headers={"X-App": "perdure"},
        idempotency_header="Idempotency-Key",
        arguments={"order": "a/b ?#é", "dry": True, "tags": ["x", "y&z"], "body": {"n": None}},
    )
    assert told == '{"ok":1}'
    assert request.path == "/orders/a%2Fb%20%3F%23%C3%A9?v=1&dry=true&tags=x&tags=y%26z"
    assert (request.method, request.json()) == ("POST", {"n": None})
    assert request.headers["x-app"] == "perdure"
    assert request.headers["idempotency-key"] == "key-1"


@pytest.mark.parametrize("value", ["..", ".", ""])
async def test_a_parameter_does_not_leave_its_part_of_the_path(value: str, context: ToolContext) -> None:
    told, requests = await called(answering(200), context, path="/users/{id}/x", arguments={"id": value})
    assert isinstance(told, ToolRetry)
    assert requests == []


async def test_headers_hold_one_line(context: ToolContext) -> None:
    parameter = {"name": "X-A", "in": "header", "schema": {"type": "string"}}
    async with HttpServer(answering(200)) as server:
        (tool,) = openapi_tools(
            {"openapi": "3.1.0", "paths": {"/a": {"get": {"parameters": [parameter]}}}}, base_url=server.url
        )
        for value in ("a\r\nX-B: c", "é"):
            with pytest.raises(ToolRetry, match="header"):
                await tool.run({"X-A": value}, context)
        assert server.requests == []


@pytest.mark.parametrize(
    ("auth", "where"),
    [
        (env("TOKEN"), {"authorization": f"Bearer {SECRET}"}),
        (env("TOKEN", scheme="token"), {"authorization": f"token {SECRET}"}),
        (env("TOKEN", header="X-Key"), {"x-key": SECRET}),
        (env("TOKEN", query="key"), {}),
        (basic_auth("NAME", "TOKEN"), {"authorization": "Basic YWRhOmh1bnRlcjIgJiBjbw=="}),
    ],
)
async def test_credentials_are_read_at_the_call_and_never_told(
    auth: Credential, where: dict[str, str], context: ToolContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKEN", SECRET)
    monkeypatch.setenv("NAME", "ada")

    async def echo(request: Request, connection: Connection) -> None:
        status = 400 if "bad" in request.path else 200
        await connection.answer(status, f"{request.path} {dict(request.headers)}".encode())

    for path in ("/a", "/bad"):
        told, (request,) = await called(echo, context, path=path, auth=auth)
        assert where.items() <= request.headers.items()
        assert where or request.path == f"{path}?key=hunter2%20%26%20co"
        assert "hunter2" not in str(told)
        assert "YWRhOmh1bnRlcjIgJiBjbw==" not in str(told)
        assert "***" in str(told)
    assert SECRET not in repr(http_tool("x", "GET", "https://h/", description="", auth=auth).spec)


async def test_a_missing_variable_is_named(context: ToolContext) -> None:
    told, requests = await called(answering(200), context, auth=env("NOT_SET"))
    assert isinstance(told, ToolError)
    assert told.non_retryable
    assert "NOT_SET is not set on this worker" in told.message
    assert requests == []


async def test_a_redirect_stays_at_its_origin(context: ToolContext, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", SECRET)

    async def moved(request: Request, connection: Connection) -> None:
        if request.path == "/a":
            await connection.answer(302, b"", location="/b")
        else:
            await connection.answer(200, b"there")

    told, requests = await called(moved, context, auth=env("TOKEN"))
    assert (told, [each.path for each in requests]) == ("there", ["/a", "/b"])
    told, requests = await called(moved, context, "POST")
    assert "does not follow" in str(told)
    assert len(requests) == 1
    async with HttpServer(answering(200)) as other:
        told, _ = await called(answering(307, location=f"{other.url}/x"), context, auth=env("TOKEN"))
        assert "another origin" in str(told)
        assert other.requests == []
    told, requests = await called(answering(302, location="/a"), context)
    assert "more than 5 times" in str(told)
    assert len(requests) == 6


async def test_errors_are_told_with_their_text(context: ToolContext) -> None:
    told, _ = await called(answering(404, b'{"error": "no such pet"}'), context)
    assert isinstance(told, ToolRetry)
    assert str(told) == 'HTTP 404 Not Found\n{"error": "no such pet"}'
    told, _ = await called(answering(400, b"x" * 100_000), context)
    assert len(str(told)) < 2100


async def test_what_may_pass_is_tried_again_after_what_the_service_asks_for(context: ToolContext) -> None:
    for header, delay in {"7": 7, "99999": 300, "Wed, 21 Oct 2015 07:28:00 GMT": 0, "soon": None}.items():
        told, _ = await called(answering(429, retry_after=header), context)
        assert isinstance(told, ToolError)
        assert not told.non_retryable
        assert told.next_retry_delay == (None if delay is None else timedelta(seconds=delay))
    told, _ = await called(answering(503), context, "POST", idempotency_header="Idempotency-Key")
    assert isinstance(told, ToolError)
    assert not told.non_retryable
    told, _ = await called(answering(429), context, "POST")
    assert isinstance(told, ToolRetry)


async def test_what_may_have_taken_effect_is_said_to(context: ToolContext) -> None:
    async def cut(request: Request, connection: Connection) -> None:
        connection.reset()

    for script in (cut, answering(502)):
        told, requests = await called(script, context, "POST")
        assert isinstance(told, ToolError)
        assert told.non_retryable
        assert told.attributes["outcome"] == "unknown"
        assert len(requests) == 1
        told, _ = await called(script, context, "DELETE")
        assert isinstance(told, ToolError)
        assert not told.non_retryable


async def test_time_and_length_are_bounded(context: ToolContext) -> None:
    async def slow(request: Request, connection: Connection) -> None:
        await connection.peer_left()

    told, _ = await called(slow, context, timeout=timedelta(seconds=0.2))
    assert "within 0.2 seconds" in str(told)
    bomb = gzip.compress(b"a" * 20_000_000)
    told, _ = await called(
        answering(200, bomb, content_encoding="gzip"),
        context,
        max_result_bytes=1000,
        timeout=timedelta(seconds=20),
    )
    assert told.startswith("aaaa")
    assert told.endswith("[cut by perdure after 1000 bytes; ask for less, or for a page]")
    assert len(told) < 1100


async def test_answers_without_text(context: ToolContext) -> None:
    assert (await called(answering(204), context, "DELETE"))[0] == "HTTP 204 No Content"
    told, _ = await called(answering(200, b"\x89PNG", content_type="image/png"), context)
    assert told == "[image/png, 4 bytes: not shown]"

    async def head(request: Request, connection: Connection) -> None:
        await connection.head(200, etag='"x"', content_length="5")

    assert (await called(head, context, "HEAD"))[0] == 'HTTP 200 OK\ncontent-length: 5\netag: "x"'


async def test_a_server_that_is_not_there(context: ToolContext) -> None:
    async with HttpServer(answering(200)) as server:
        url = server.url
    with pytest.raises(ToolError, match="can't be reached") as caught:
        await http_tool("call", "POST", url, description="").run({}, context)
    assert not caught.value.non_retryable


@pytest.mark.parametrize(
    "options",
    [
        {"method": "TEAPOT"},
        {"url": "/relative"},
        {"url": "https://{host}/"},
        {"url": "https://h/{a"},
        {"url": "https://h/{}"},
        {"url": "https://h/{a}/{a}"},
        {"url": "https://h/?x={a}"},
        {"url": "https://h/#x"},
        {"url": "https://u:p@h/"},
        {"url": "https://[h/"},
        {"parameters": {"a b": {}}},
        {"parameters": {"body": {}}},
        {"optional": ("nothing",)},
        {"url": "https://h/{a}", "optional": ("a",)},
        {"method": "GET", "body": {}},
        {"name": "not a name"},
    ],
)
def test_templates_are_checked_when_they_are_declared(options: dict[str, Any]) -> None:
    good: dict[str, Any] = {"name": "x", "method": "POST", "url": "https://h/", "description": ""}
    with pytest.raises(UserError):
        http_tool(**{**good, **options})


@pytest.mark.parametrize("variable", ["", "a b", "sk-123", "1A"])
def test_a_secret_is_no_variable(variable: str) -> None:
    makers: tuple[Callable[[str], Credential], ...] = (env, partial(basic_auth, "A"))
    for make in makers:
        with pytest.raises(InvalidToolError) as caught:
            make(variable)
        assert not variable or variable not in str(caught.value)
    with pytest.raises(InvalidToolError):
        env("A", header="x", query="y")
