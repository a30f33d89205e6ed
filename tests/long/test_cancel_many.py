"""Cancelling a run with 200 runs in flight: each cleans up, none is terminated, no request stays open."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from temporalio.client import Client

from perdure.client import PerdureClient
from perdure.client._children import ChildReader
from perdure.connection import connect
from perdure.devserver import DevServer
from tests.fakes.http import Connection, HttpServer, Request
from tests.support.workers import WorkerProcess

COUNT = 200
REQUESTS_SECONDS = 10.0
"""Within which no request is open any more."""


class _Hanging(HttpServer):
    """Never answers; counts the requests that are open."""

    def __init__(self) -> None:
        super().__init__(self._hang)
        self.open = 0
        self.last_closed_at = 0.0

    async def _hang(self, request: Request, connection: Connection) -> None:
        self.open += 1
        try:
            await connection.peer_left()
        finally:
            self.open -= 1
            self.last_closed_at = time.monotonic()


@pytest.mark.alone
@pytest.mark.parametrize(
    "workflow",
    ["ManyAgents", "ManyTidy"],
    ids=["200 agents", "200 workflows of the user's, each with an agent"],
)
async def test_every_child_cleans_up(workflow: str, tmp_path: Path) -> None:
    """The server's data is in memory: a disk is the machine's."""
    trace = tmp_path / "trace"
    async with _Hanging() as fake, DevServer(tmp_path, port=0, ui_port=0, in_memory=True) as server:
        client = PerdureClient(await connect(address=server.address), task_queue="q")
        env = {"OPENAI_BASE_URL": f"{fake.url}/v1", "OPENAI_API_KEY": "sk-test", "TRACE": str(trace)}
        async with WorkerProcess(server.address, "q", "tests.support.tidy_app:app", env=env):
            root = (await client.start_workflow(workflow, [COUNT])).workflow_id
            await _until(lambda: fake.open == COUNT)
            asked_at = time.monotonic()
            await client.cancel(root)
            while (await client.show(root, depth=0)).info.status == "running":
                await asyncio.sleep(0.1)
            closed = time.monotonic() - asked_at
        requests = fake.last_closed_at - asked_at
        print(f"{workflow}: the last request closed after {requests:.1f} s, the run after {closed:.1f} s")
        assert fake.open == 0
        assert requests <= REQUESTS_SECONDS
        assert requests <= closed, "a request outlived the run"
        assert (await client.show(root, depth=0)).info.status == "canceled"
        children = await _children(client.temporal, root)
        assert list(children.values()) == ["canceled"] * COUNT
        if workflow == "ManyAgents":
            assert trace.read_text() == "tidied\n"
            return
        assert sorted(trace.read_text().splitlines()) == sorted(f"tidied {n}" for n in range(COUNT))
        for child in children:
            assert list((await _children(client.temporal, child)).values()) == ["canceled"]


async def _until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not is_so():
            await asyncio.sleep(0.05)


async def _children(client: Client, workflow_id: str) -> dict[str, str]:
    """Return how the children of a run ended, as its own history has it: it closed after the last."""
    reader = ChildReader(client.data_converter)
    async for event in client.get_workflow_handle(workflow_id).fetch_history_events():
        await reader.read(event)
    return {child.workflow_id: child.status for child in reader.children.values()}
