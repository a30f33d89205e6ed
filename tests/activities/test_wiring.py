"""What the workers of one process share."""

from pathlib import Path

from perdure.app import App
from perdure.settings import Settings
from perdure.wiring import make_parts
from tests.fakes.http import Connection, HttpServer, Request


async def test_the_client_of_tools_keeps_no_cookies_also_when_it_is_opened_again(tmp_path: Path) -> None:
    async def remember(_: Request, connection: Connection) -> None:
        await connection.answer(200, b"", **{"set-cookie": "session=of-one-tenant"})

    parts = make_parts(App(), Settings(project_dir=tmp_path))
    async with HttpServer(remember) as server:
        for _ in range(2):  # the second worker of a client opens it anew
            async with parts.opened():
                for _ in range(2):
                    await parts.host.http.get(server.url)
            assert parts.host.http.is_closed
    assert len(server.requests) == 4
    assert [request.headers["cookie"] for request in server.requests if "cookie" in request.headers] == []
