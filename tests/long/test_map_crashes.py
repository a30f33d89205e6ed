"""P2, P4: a worker that is killed in the middle of a map; what is finished is kept, in its place."""

import asyncio
from collections import Counter
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from temporalio.client import Client

from perdure import Limits
from perdure.client import PerdureClient
from perdure.contracts.map import MapOutcome, MapResult, OnError
from perdure.devserver import DevServer
from tests.fakes.conversing import ConversingServer
from tests.fakes.replies import FakeReply
from tests.long.test_crashes import APP
from tests.support.workers import WorkerProcess

ITEMS = 30
TIME = timedelta(seconds=100)
BAD = {3, 17, 29}


def _item(number: int, bad: set[int]) -> str:
    return f"{'bad' if number in bad else 'item'} {number}"


def _echo(turn: int, messages: list[dict[str, Any]]) -> FakeReply:
    text = messages[-1]["content"]
    return FakeReply(text="" if text.startswith("bad") else f"echo {text}")


def _asked(fake: ConversingServer) -> Counter[str]:
    """Return how often the model was asked about each item."""
    return Counter(request.json()["messages"][-1]["content"] for request in fake.requests)


async def _finished(client: PerdureClient, workflow_id: str) -> set[str]:
    """Return the ids of the items' runs that are over."""
    query = f"RootWorkflowId = '{workflow_id}' AND WorkflowType = 'AgentWorkflow' AND ExecutionStatus != 'Running'"
    return {info.workflow_id async for info in client.list(query=query, limit=1000)}


@pytest.mark.parametrize("on_error", ["fail", "collect"])
async def test_a_map_outlives_its_worker(
    server: DevServer, temporal: Client, tmp_path: Any, on_error: OnError
) -> None:
    """Nodes have five items; one worker dies once some of them are done, and another goes on."""
    bad: set[int] = BAD if on_error == "collect" else set()
    items = [_item(number, bad) for number in range(ITEMS)]
    queue = f"q-{uuid4().hex[:8]}"
    client = PerdureClient(temporal, task_queue=queue)
    async with ConversingServer(_echo, delay_seconds=0.3) as fake:
        env = {**fake.env, "CRASH_LOG": str(tmp_path / "effects")}
        async with WorkerProcess(server.address, queue, APP, env=env, heartbeat_timeout_seconds=1):
            limits = Limits(max_consecutive_errors=1)
            run = await client.start_map("crash", items, max_parallel=12, on_error=on_error, limits=limits)
            finished: set[str] = set()
            while len(finished) < 5 or not fake.open_requests:
                await asyncio.sleep(0.05)
                finished = await _finished(client, run.workflow_id)
        finished = {items[int(each.rpartition("/")[2])] for each in await _finished(client, run.workflow_id)}
        before = _asked(fake)
        async with WorkerProcess(server.address, queue, APP, env=env, heartbeat_timeout_seconds=1):
            result: Any = await client.result(run.workflow_id, timeout=TIME)
    assert isinstance(result, MapResult)
    assert [_shown(each) for each in result.outcomes] == [(n, n in bad, item) for n, item in enumerate(items)]
    asked = _asked(fake)
    assert asked.total() > ITEMS, "the kill hit no model call"
    assert 5 <= len(finished) < ITEMS, "the kill was not in the middle"
    assert {item: asked[item] for item in finished} == {item: before[item] for item in finished}


def _shown(outcome: MapOutcome) -> tuple[int, bool, str]:
    """Return its index, whether it failed, and the item that it is of."""
    if outcome.failure is None:
        return outcome.index, False, str(outcome.output).removeprefix("echo ")
    assert outcome.failure.type == "UnexpectedModelBehavior"
    return outcome.index, True, f"bad {(outcome.failure.attributes or {})['item']}"
