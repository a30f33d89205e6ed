"""A server that speaks Anthropic's Messages format, streamed and whole."""

import json
from collections.abc import Iterator
from typing import Any

from tests.fakes.http import Connection, HttpServer, Request, event
from tests.fakes.replies import FakeReply, pieces

SIGNATURE = "c2lnbmF0dXJl"


class AnthropicServer(HttpServer):
    """Gives the replies in turn, and the last one for ever after."""

    def __init__(self, *replies: FakeReply) -> None:
        super().__init__(self._answer)
        self._replies = list(replies)

    async def _answer(self, request: Request, connection: Connection) -> None:
        if request.path != "/v1/messages":
            await connection.answer_json(404, error("not_found_error", f"no path {request.path}"))
            return
        reply = self._replies.pop(0) if len(self._replies) > 1 else self._replies[0]
        asked = request.json()
        if not asked.get("stream"):
            await connection.answer_json(200, message(reply, asked["model"]))
            return
        await connection.stream_head()
        for each in events(reply, asked["model"]):
            await connection.chunk(event(each, each["type"]))
        await connection.stream_end()


def message(reply: FakeReply, model: str) -> dict[str, Any]:
    """Return a `message` object."""
    return {
        **_head(model),
        "content": blocks(reply),
        "stop_reason": _stop(reply),
        "usage": usage(reply),
        **reply.extra,
    }


def blocks(reply: FakeReply) -> list[dict[str, Any]]:
    """Return the content of a reply."""
    found: list[dict[str, Any]] = []
    if reply.reasoning:
        found.append({"type": "thinking", "thinking": reply.reasoning, "signature": SIGNATURE})
    if reply.text:
        found.append({"type": "text", "text": reply.text})
    for call in reply.calls:
        found.append({"type": "tool_use", "id": call.id, "name": call.name, "input": json.loads(call.arguments)})
    return found


def events(reply: FakeReply, model: str) -> Iterator[dict[str, Any]]:
    """Yield the events of a stream, with a ping among them."""
    first = {**usage(reply), "output_tokens": 1}
    yield {
        "type": "message_start",
        "message": {**_head(model), "content": [], "stop_reason": None, "usage": first},
    }
    yield {"type": "ping"}
    for index, block in enumerate(blocks(reply)):
        yield {"type": "content_block_start", "index": index, "content_block": _start(block)}
        for delta in _deltas(block):
            yield {"type": "content_block_delta", "index": index, "delta": delta}
        yield {"type": "content_block_stop", "index": index}
    yield {
        "type": "message_delta",
        "delta": {"stop_reason": _stop(reply), "stop_sequence": None},
        "usage": {"output_tokens": reply.output_tokens},
    }
    yield {"type": "message_stop"}


def usage(reply: FakeReply) -> dict[str, Any]:
    return {
        "input_tokens": reply.prompt_tokens,
        "cache_read_input_tokens": reply.cached_tokens,
        "cache_creation_input_tokens": reply.cache_write_tokens,
        "output_tokens": reply.output_tokens,
    }


def error(kind: str, text: str) -> dict[str, Any]:
    """Return the body of an error, or the event of one."""
    return {"type": "error", "error": {"type": kind, "message": text}, "request_id": "req_1"}


def _head(model: str) -> dict[str, Any]:
    return {"id": "msg_1", "type": "message", "role": "assistant", "model": model, "stop_sequence": None}


def _start(block: dict[str, Any]) -> dict[str, Any]:
    empty = {"text": {"text": ""}, "thinking": {"thinking": "", "signature": ""}, "tool_use": {"input": {}}}
    return {**block, **empty[block["type"]]}


def _deltas(block: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if block["type"] == "text":
        yield from ({"type": "text_delta", "text": piece} for piece in pieces(block["text"]))
    elif block["type"] == "thinking":
        yield from ({"type": "thinking_delta", "thinking": piece} for piece in pieces(block["thinking"]))
        yield {"type": "signature_delta", "signature": block["signature"]}
    else:
        for piece in ["", *pieces(json.dumps(block["input"]))]:
            yield {"type": "input_json_delta", "partial_json": piece}


def _stop(reply: FakeReply) -> str:
    return reply.stop or ("tool_use" if reply.calls else "end_turn")
