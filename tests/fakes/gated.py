"""A fake vendor that answers when it is told to, and sees when a request is cut."""

import asyncio
import time

from tests.fakes.http import Connection, HttpServer, Request, event
from tests.fakes.openai_server import chunks
from tests.fakes.replies import FakeReply


class Gated(HttpServer):
    """Speaks Chat Completions.

    Attributes:
        asked: The texts of the prompts, by request.
        cut_at: When the client left a request that was open.
    """

    def __init__(self) -> None:
        super().__init__(self._answer)
        self.asked: list[list[str]] = []
        self.replies: asyncio.Queue[FakeReply | str] = asyncio.Queue()
        self.cut_at = 0.0

    async def _answer(self, request: Request, connection: Connection) -> None:
        asked = request.json()
        self.asked.append([str(each.get("content") or "") for each in asked["messages"]])
        await connection.stream_head()
        reply = await self.replies.get()
        if isinstance(reply, str):  # the beginning of a reply that never ends
            for chunk in list(chunks(FakeReply(text=reply), asked["model"]))[:-2]:
                await connection.chunk(event(chunk))
            await connection.peer_left()
            self.cut_at = time.monotonic()
            return
        for chunk in chunks(reply, asked["model"]):
            await connection.chunk(event(chunk))
        await connection.chunk(event("[DONE]"))
        await connection.stream_end()

    async def until_asked(self, count: int) -> None:
        async with asyncio.timeout(30):
            while len(self.asked) < count:
                await asyncio.sleep(0.02)
