"""A server that speaks OpenAI's Chat Completions format, streamed and whole."""

from collections.abc import Iterator, Sequence
from typing import Any

from tests.fakes.http import Connection, HttpServer, Request, event
from tests.fakes.replies import FakeReply, pieces


class OpenAIServer(HttpServer):
    """Gives the replies in turn, and the last one for ever after; each with the headers."""

    def __init__(self, *replies: FakeReply, **headers: str) -> None:
        super().__init__(self._answer)
        self._replies = list(replies)
        self._headers = headers

    @property
    def base_url(self) -> str:
        return f"{self.url}/v1"

    async def _answer(self, request: Request, connection: Connection) -> None:
        if request.path != "/v1/chat/completions":
            await connection.answer_json(404, {"error": {"message": f"no path {request.path}"}})
            return
        reply = self._replies.pop(0) if len(self._replies) > 1 else self._replies[0]
        asked = request.json()
        if not asked.get("stream"):
            await connection.answer_json(200, completion(reply, asked["model"]), **self._headers)
            return
        await connection.stream_head(**self._headers)
        for chunk in chunks(reply, asked["model"]):
            await connection.chunk(event(chunk))
        await connection.chunk(event("[DONE]"))
        await connection.stream_end()


def completion(reply: FakeReply, model: str) -> dict[str, Any]:
    """Return a `chat.completion` object."""
    message: dict[str, Any] = {
        "role": "assistant",
        "content": reply.text or None,
        "refusal": reply.refusal or None,
    }
    if reply.calls:
        message["tool_calls"] = [_call(reply, index) for index in range(len(reply.calls))]
    if reply.reasoning:
        message["reasoning_content"] = reply.reasoning
    choice = {"index": 0, "message": message, "finish_reason": _finish(reply), "logprobs": None}
    return {**_head("chat.completion", model), "choices": [choice], "usage": usage(reply), **reply.extra}


def chunks(reply: FakeReply, model: str) -> Iterator[dict[str, Any]]:
    """Yield `chat.completion.chunk` objects, the usage in the last."""
    yield _chunk(model, {"role": "assistant", "content": ""})
    for piece in pieces(reply.reasoning):
        yield _chunk(model, {"reasoning_content": piece})
    for piece in pieces(reply.text):
        yield _chunk(model, {"content": piece})
    for piece in pieces(reply.refusal):
        yield _chunk(model, {"refusal": piece})
    for index in range(len(reply.calls)):
        call = _call(reply, index)
        arguments = call["function"].pop("arguments")
        opening = {**call, "index": index, "function": {**call["function"], "arguments": ""}}
        yield _chunk(model, {"tool_calls": [opening]})
        for piece in pieces(arguments):
            yield _chunk(model, {"tool_calls": [{"index": index, "function": {"arguments": piece}}]})
    yield _chunk(model, {}, _finish(reply))
    yield {**_head("chat.completion.chunk", model), "choices": [], "usage": usage(reply)}


def usage(reply: FakeReply) -> dict[str, Any]:
    return {
        "prompt_tokens": reply.prompt_tokens,
        "completion_tokens": reply.output_tokens,
        "total_tokens": reply.prompt_tokens + reply.output_tokens,
        "prompt_tokens_details": {"cached_tokens": reply.cached_tokens, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": reply.reasoning_tokens},
    }


def error(message: str, *, code: str | None = None, kind: str = "invalid_request_error") -> dict[str, Any]:
    """Return the body of an error."""
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def _head(kind: str, model: str) -> dict[str, Any]:
    return {"id": "chatcmpl-1", "object": kind, "created": 1_750_000_000, "model": model}


def _chunk(model: str, delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
    choices: Sequence[Any] = [{"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}]
    return {**_head("chat.completion.chunk", model), "choices": choices, "usage": None}


def _call(reply: FakeReply, index: int) -> dict[str, Any]:
    call = reply.calls[index]
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


def _finish(reply: FakeReply) -> str:
    return reply.stop or ("tool_calls" if reply.calls else "stop")
