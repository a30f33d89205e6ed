"""A local OpenAI-compatible server that answers at once: `python -m bench.fake_llm`. A process of its own.

It reads no more of a body than it needs: the model's name says what to do, and the number of assistant messages
says how far the conversation is. So it answers the same whatever worker asks, and however often.

A model is named `bench-T50-S2000-fetch`: 50 turns with one call of the tool `fetch` for 2,000 characters each,
then a text. `-D20` delays each answer by 20 ms; `-H` holds it until `POST /release`.
"""

import asyncio
import json
import os
import re
import threading
from collections import Counter
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from perdure.worker import new_event_loop

_MODEL = re.compile(rb'"model":\s*"(bench-[A-Za-z0-9_-]+)"')
_LENGTH = re.compile(rb"\r\ncontent-length:\s*(\d+)", re.IGNORECASE)
_REPLIED = b'"role":"assistant"'
_HEAD_BYTES = 4096


@dataclass(frozen=True)
class Script:
    """What a model does, read from its name."""

    turns: int = 0
    size: int = 2000
    tool: str = "fetch"
    delay_seconds: float = 0
    is_held: bool = False


@lru_cache(maxsize=1000)
def read_script(model: str) -> Script:
    """Return what the name of a model says."""
    values: dict[str, Any] = {}
    for word in model.split("-")[1:]:
        match word[0], word[1:]:
            case "T", number:
                values["turns"] = int(number)
            case "S", number:
                values["size"] = int(number)
            case "D", number:
                values["delay_seconds"] = int(number) / 1000
            case "H", "":
                values["is_held"] = True
            case _:
                values["tool"] = word
    return Script(**values)


@dataclass
class _State:
    calls: Counter[str] = field(default_factory=Counter[str])
    prompt_bytes: int = 0
    trace_bytes: int = 0
    held: "list[tuple[_Connection, bytes]]" = field(default_factory=list["tuple[_Connection, bytes]"])
    is_released: bool = False

    def as_json(self) -> bytes:
        stats = {
            "calls": self.calls,
            "held": len(self.held),
            "prompt_bytes": self.prompt_bytes,
            "trace_bytes": self.trace_bytes,
        }
        return json.dumps(stats).encode()

    def release(self) -> None:
        self.is_released = True
        held, self.held = self.held, []
        for connection, answer in held:
            connection.send(answer)


class _Connection(asyncio.Protocol):
    def __init__(self, state: _State) -> None:
        self._state = state
        self._buffer = bytearray()
        self._wanted = 0
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._state.held = [each for each in self._state.held if each[0] is not self]

    def send(self, answer: bytes) -> None:
        if self._transport is not None:
            self._transport.write(answer)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if len(self._buffer) < self._wanted:
            return
        head = self._buffer.find(b"\r\n\r\n")
        if head < 0:
            return
        length = _LENGTH.search(self._buffer, 0, head + 2)
        self._wanted = head + 4 + (int(length[1]) if length else 0)
        if len(self._buffer) >= self._wanted:
            request, self._buffer, self._wanted = self._buffer, bytearray(), 0
            self._answer(request, head + 4)

    def _answer(self, request: bytearray, body: int) -> None:
        if request.startswith(b"POST /v1/chat/completions"):
            self._answer_chat(request, body)
        elif request.startswith(b"POST /v1/traces"):
            self._state.trace_bytes += len(request) - body
            self.send(_whole(b""))
        elif request.startswith(b"POST /release"):
            self._state.release()
            self.send(_whole(b"{}"))
        elif request.startswith(b"POST /hold"):
            self._state.is_released = False
            self.send(_whole(b"{}"))
        else:
            self.send(_whole(self._state.as_json()))

    def _answer_chat(self, request: bytearray, body: int) -> None:
        named = _MODEL.search(request, body, body + _HEAD_BYTES)
        if named is None:
            self.send(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n")
            return
        model = named[1].decode()
        script = read_script(model)
        self._state.calls[model] += 1
        self._state.prompt_bytes += len(request) - body
        is_stream = request.find(b'"stream":true', body, body + _HEAD_BYTES) >= 0
        answer = reply(script, request.count(_REPLIED, body), len(request) - body, is_stream=is_stream)
        if script.is_held and not self._state.is_released:
            self._state.held.append((self, answer))
        elif script.delay_seconds:
            asyncio.get_running_loop().call_later(script.delay_seconds, self.send, answer)
        else:
            self.send(answer)


def reply(script: Script, done: int, size: int, *, is_stream: bool = True) -> bytes:
    """Return the answer to a conversation that holds `done` replies, of a prompt of so many bytes."""
    usage = b'{"prompt_tokens":%d,"completion_tokens":20,"total_tokens":%d}' % (size // 4, size // 4 + 20)
    if done < script.turns:
        arguments = b'{\\"page\\":%d,\\"size\\":%d}' % (done, script.size)
        call = b'"id":"call_%d","type":"function","function":{"name":"%b","arguments":"%b"}' % (
            done,
            script.tool.encode(),
            arguments,
        )
        said = b'"role":"assistant","content":null,"tool_calls":[{"index":0,%b}]' % call
        finish = b"tool_calls"
    else:
        said = b'"role":"assistant","content":"Done after %d turns."' % done
        finish = b"stop"
    return _stream(said, finish, usage) if is_stream else _whole(_completion(said, finish, usage))


def _completion(said: bytes, finish: bytes, usage: bytes) -> bytes:
    choice = b'{"index":0,"message":{%b},"finish_reason":"%b"}' % (said, finish)
    return b'{"id":"c","object":"chat.completion","choices":[%b],"usage":%b}' % (choice, usage)


def _whole(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)


def _stream(said: bytes, finish: bytes, usage: bytes) -> bytes:
    chunk = b'data: {"id":"c","object":"chat.completion.chunk","choices":[%b]%b}\n\n'
    events = (
        chunk % (b'{"index":0,"delta":{%b},"finish_reason":null}' % said, b""),
        chunk % (b'{"index":0,"delta":{},"finish_reason":"%b"}' % finish, b""),
        chunk % (b"", b',"usage":' + usage),
        b"data: [DONE]\n\n",
    )
    body = b"".join(b"%x\r\n%b\r\n" % (len(event), event) for event in events)
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    return b"%b%b0\r\n\r\n" % (head, body)


def end_with_parent() -> None:
    """End this process when whoever started it is gone: its end of our stdin is then closed."""

    def wait() -> None:
        while os.read(0, 1):
            pass
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


async def _serve() -> None:
    state = _State()
    server = await asyncio.get_running_loop().create_server(
        lambda: _Connection(state), "127.0.0.1", 0, backlog=2048
    )
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    end_with_parent()
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(_serve())
