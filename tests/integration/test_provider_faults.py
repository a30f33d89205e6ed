"""Every fault of a provider ends as it should: nothing hangs, nothing leaks the key.

All faults happen at once, in one worker process, against a real HTTP server.
"""

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any
from uuid import uuid4

import pytest
from temporalio.client import Client

from perdure.client import PerdureClient
from perdure.contracts.run import RunResult
from perdure.devserver import DevServer
from perdure.errors import ModelUnavailable, PerdureError
from tests.fakes.http import Connection, HttpServer, Request, event
from tests.fakes.openai_server import chunks, completion, error
from tests.fakes.replies import FakeReply
from tests.support.workers import WorkerProcess

KEY = "sk-live-51Hqk2verysecretkey"
TIME = timedelta(seconds=40)

Fault = Callable[[Request, Connection], Awaitable[None]]


def _status(status: int, message: str = "no luck", *, code: str | None = None, **headers: str) -> Fault:
    async def fault(request: Request, connection: Connection) -> None:
        await connection.answer_json(status, error(message, code=code), **headers)

    return fault


async def _rate_limited_until(request: Request, connection: Connection) -> None:
    at = format_datetime(datetime.now(UTC) + timedelta(seconds=2), usegmt=True)
    await connection.answer_json(429, error("slow down"), retry_after=at)


async def _reset(request: Request, connection: Connection) -> None:
    await connection.stream_head()
    await connection.chunk(event(next(iter(chunks(FakeReply(text="half"), "m")))))
    connection.reset()


async def _stall(request: Request, connection: Connection) -> None:
    await connection.stream_head()
    await connection.peer_left()


async def _silence(request: Request, connection: Connection) -> None:
    await connection.peer_left()


async def _truncated(request: Request, connection: Connection) -> None:
    body = json.dumps(completion(FakeReply(text="half an answer"), "m")).encode()
    await connection.answer(200, body[:-20])


async def _page(request: Request, connection: Connection) -> None:
    await connection.answer(200, b"<html>Welcome to the proxy</html>", content_type="text/html")


async def _flood(request: Request, connection: Connection) -> None:
    await connection.stream_head()
    for _ in range(50):
        await connection.chunk(event({"choices": [{"index": 0, "delta": {"content": "x" * 1_000_000}}]}))


PASSING: dict[str, Fault] = {
    "429 with seconds": _status(429, retry_after="2"),
    "429 with a date": _rate_limited_until,
    "500": _status(500),
    "503": _status(503),
    "529": _status(529),
    "reset in mid-stream": _reset,
    "stall in mid-stream": _stall,
    "no answer at all": _silence,
    "truncated JSON": _truncated,
    "wrong content type": _page,
    "50 MB": _flood,
}
FINAL: dict[str, Fault] = {
    "401": _status(401, f"Incorrect API key provided: {KEY}"),
    "404": _status(404, "The model `fake` does not exist", code="model_not_found"),
    "quota": _status(429, "You exceeded your current quota", code="insufficient_quota"),
    "context": _status(400, "maximum context length is 10 tokens", code="context_length_exceeded"),
    "500 for ever": _status(500),
}


class FaultyServer(HttpServer):
    """Does to the first request of a conversation what its text says; answers the second."""

    def __init__(self) -> None:
        super().__init__(self._serve_fault)
        self.seen: Counter[str] = Counter()
        self.times: dict[str, list[float]] = {}

    async def _serve_fault(self, request: Request, connection: Connection) -> None:
        asked = request.json()
        name = asked["messages"][-1]["content"]
        self.seen[name] += 1
        self.times.setdefault(name, []).append(asyncio.get_running_loop().time())
        if name in FINAL:
            await FINAL[name](request, connection)
        elif self.seen[name] == 1:
            await PASSING[name](request, connection)
        else:
            await connection.answer_json(200, completion(FakeReply(text=f"after {name}"), "m"))


async def _outcome(client: PerdureClient, agent: str, fault: str) -> tuple[str, Any, str]:
    run = await client.start_agent(agent, fault)
    try:
        outcome: Any = await client.result(run.workflow_id, timeout=TIME)
    except PerdureError as failure:
        outcome = failure
    history = await client.temporal.get_workflow_handle(run.workflow_id).fetch_history()
    return fault, outcome, history.to_json()


@pytest.fixture(scope="module")
async def outcomes(server: DevServer, temporal: Client) -> tuple[dict[str, tuple[Any, str]], FaultyServer, str]:
    queue = f"q-{uuid4().hex[:8]}"
    async with FaultyServer() as faulty:
        env = {"OPENAI_BASE_URL": f"{faulty.url}/v1", "OPENAI_API_KEY": KEY, "NOWHERE_KEY": KEY}
        nowhere = {"protocol": "openai", "base_url": "http://127.0.0.1:1/v1", "api_key_env": "NOWHERE_KEY"}
        app = "tests.support.faults_app:app"
        worker = WorkerProcess(server.address, queue, app, env=env, providers={"nowhere": nowhere})
        async with worker:
            client = PerdureClient(temporal, task_queue=queue)
            done = await asyncio.gather(
                *(_outcome(client, "faults", fault) for fault in (*PASSING, *FINAL)),
                _outcome(client, "refused", "refused"),
            )
            await worker.stop()
    return {fault: (outcome, history) for fault, outcome, history in done}, faulty, worker.log


@pytest.mark.parametrize("fault", PASSING)
async def test_a_passing_fault_is_retried(outcomes: Any, fault: str) -> None:
    by_fault, faulty, _ = outcomes
    result = by_fault[fault][0]
    assert isinstance(result, RunResult), result
    assert result.output == f"after {fault}"
    assert faulty.seen[fault] == 2


@pytest.mark.parametrize("fault", ["429 with seconds", "429 with a date"])
async def test_retry_after_is_waited_out(outcomes: Any, fault: str) -> None:
    first, second = outcomes[1].times[fault]
    assert second - first >= 0.9  # a date has no fractions of a second
    assert second - first < 30  # the other faults hold the vendor back, too


@pytest.mark.parametrize(
    ("fault", "kind", "requests"),
    [
        ("401", "fatal", 1),
        ("404", "fatal", 1),
        ("quota", "fatal", 1),
        ("context", "context_too_long", 1),
        ("500 for ever", "transient", 2),
    ],
)
async def test_a_final_fault_ends_the_run(outcomes: Any, fault: str, kind: str, requests: int) -> None:
    by_fault, faulty, _ = outcomes
    failure = by_fault[fault][0]
    assert isinstance(failure, ModelUnavailable), failure
    assert failure.attributes["kind"] == kind
    assert faulty.seen[fault] == requests


async def test_a_refused_connection_ends_the_run_after_its_attempts(outcomes: Any) -> None:
    failure = outcomes[0]["refused"][0]
    assert isinstance(failure, ModelUnavailable), failure
    assert "2 attempts" in failure.message


async def test_the_key_is_nowhere(outcomes: Any) -> None:
    by_fault, faulty, log = outcomes
    assert any(KEY in request.headers.get("authorization", "") for request in faulty.requests)
    assert "perdure.call_model" in log, "nothing was logged, so nothing could leak"
    for text in (log, *(history for _, history in by_fault.values()), *(str(o) for o, _ in by_fault.values())):
        assert KEY not in text
        assert KEY[8:] not in text
