"""Whoever follows a run goes on to see it where the server was away for a moment."""

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest

from perdure.cli._people import telling_waits
from perdure.client import PerdureClient, WatchEvent
from perdure.connection import connect
from perdure.devserver import DevServer
from tests.support.approval_app import make_app, turns
from tests.support.workers import worker

TIME = timedelta(seconds=60)


async def test_what_people_are_to_decide_is_told_after_a_restart(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    app, queue = make_app(), "restart"
    async with DevServer(tmp_path, port=0, ui_port=0) as server:
        port = int(server.address.rpartition(":")[2])
        client = PerdureClient(await connect(address=server.address), task_queue=queue, registry=app.registry)
        run = await client.start_agent("doer", turns([("deploy", {"target": "web"})]))
        seen = asyncio.create_task(_until_it_waits(client, run.workflow_id))
        telling = asyncio.create_task(_tell(client, run.workflow_id))
        await asyncio.sleep(1.5)
    await asyncio.sleep(3)  # long enough for each of them to ask
    async with DevServer(tmp_path, port=port, ui_port=0) as server:
        async with worker(app, await connect(address=server.address), queue=queue), asyncio.timeout(30):
            event = await seen
            assert [wait.tool for each in event.waits for wait in each.waits] == ["deploy"]
            told = ""
            while f"{run.workflow_id} waits for approval: deploy" not in told:
                await asyncio.sleep(0.2)
                told += capsys.readouterr().err
            await client.approve(run.workflow_id)
            assert (await client.result(run.workflow_id, timeout=TIME)).output == "deployed web x 1"
        telling.cancel()


async def _tell(client: PerdureClient, workflow_id: str) -> None:
    async with telling_waits(client, workflow_id):
        await asyncio.Event().wait()


async def _until_it_waits(client: PerdureClient, workflow_id: str) -> WatchEvent:
    async for event in client.watch(workflow_id):
        if event.kind == "waits" and event.waits:
            return event
    raise AssertionError("it ended, and was never seen to wait")
