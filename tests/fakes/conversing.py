"""A fake vendor that decides by the conversation it is sent, as a model does, and counts what it was asked."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from tests.fakes.http import Connection, HttpServer, Request, event
from tests.fakes.openai_server import chunks, completion
from tests.fakes.replies import FakeReply

Decide = Callable[[int, list[dict[str, Any]]], FakeReply]
"""Gets the number of replies so far and the messages, and returns the next reply."""


class ConversingServer(HttpServer):
    """Speaks Chat Completions; each answer depends on the conversation alone.

    Attributes:
        asked: When each request came, and how many replies its conversation held: the turn that it asks for.
        answered: Requests answered in full, by turn.
        open_requests: Requests that are being answered now.
    """

    def __init__(self, decide: Decide, *, delay_seconds: float = 0, released: asyncio.Event | None = None) -> None:
        """Answer after a delay, and once `released` is set."""
        super().__init__(self._answer)
        self._released = released
        self._decide = decide
        self._delay_seconds = delay_seconds
        self.asked: list[tuple[float, int]] = []
        self.answered: Counter[int] = Counter()
        self.open_requests = 0

    @property
    def env(self) -> dict[str, str]:
        return {"OPENAI_BASE_URL": f"{self.url}/v1", "OPENAI_API_KEY": "sk-test-key-0123456789"}

    async def _answer(self, request: Request, connection: Connection) -> None:
        asked = request.json()
        turn = sum(message["role"] == "assistant" for message in asked["messages"])
        self.asked.append((time.monotonic(), turn))
        self.open_requests += 1
        try:
            await asyncio.sleep(self._delay_seconds)
            if self._released is not None:
                await self._released.wait()
            await self._send(asked, self._decide(turn, asked["messages"]), connection)
            self.answered[turn] += 1
        finally:
            self.open_requests -= 1

    async def _send(self, asked: dict[str, Any], reply: FakeReply, connection: Connection) -> None:
        if not asked.get("stream"):
            await connection.answer_json(200, completion(reply, asked["model"]))
            return
        await connection.stream_head()
        for chunk in chunks(reply, asked["model"]):
            await connection.chunk(event(chunk))
        await connection.chunk(event("[DONE]"))
        await connection.stream_end()
