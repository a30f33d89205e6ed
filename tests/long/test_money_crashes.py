"""A worker is killed while money is spent: what the vendor billed still never exceeds the limit."""

import asyncio
import random
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from temporalio.client import Client

from perdure import Limits
from perdure.client import PerdureClient
from perdure.devserver import DevServer
from perdure.errors import LimitExceeded
from tests.support.workers import WorkerProcess

APP = "tests.support.money_app:app"
TIME = timedelta(seconds=30)


def billed(bills: Path, tree: str = "go") -> list[int]:
    lines = bills.read_text().splitlines() if bills.exists() else []
    return [int(line.split()[1]) for line in lines if line.split()[0] == tree]


async def wait_for_bill(bills: Path) -> None:
    async with asyncio.timeout(TIME.total_seconds()):
        while not billed(bills):
            await asyncio.sleep(0.02)


@pytest.mark.parametrize(("limit", "is_answered"), [(2_400, False), (6_000, True)])
async def test_a_call_that_was_cut_is_spent(
    server: DevServer, temporal: Client, tmp_path: Path, limit: int, is_answered: bool
) -> None:
    """With one call's budget left the run ends; with more it asks again, on a reservation of its own."""
    bills, queue = tmp_path / "bills", f"q-{uuid4().hex[:8]}"
    environ = {"BILLS": str(bills), "CALL_SECONDS": "1.5"}
    client = PerdureClient(temporal, task_queue=queue)
    options = {"heartbeat_timeout_seconds": 1.0}
    async with WorkerProcess(server.address, queue, APP, env=environ, **options) as process:
        run = await client.start_agent("single", "go", limits=Limits(max_total_tokens=limit))
        await wait_for_bill(bills)
        await process.kill()
    async with WorkerProcess(server.address, queue, APP, env=environ, **options):
        if is_answered:
            assert (await client.result(run.workflow_id, timeout=TIME)).output == "done"
        else:
            with pytest.raises(LimitExceeded):
                await client.result(run.workflow_id, timeout=TIME)
    assert len(billed(bills)) == (2 if is_answered else 1)
    assert sum(billed(bills)) <= limit


async def test_trees_whose_worker_is_killed_at_random(server: DevServer, temporal: Client, tmp_path: Path) -> None:
    bills, queue, limit, chance = tmp_path / "bills", f"q-{uuid4().hex[:8]}", 14_000, random.Random(4)
    client = PerdureClient(temporal, task_queue=queue)
    environ = {"BILLS": str(bills), "CALL_SECONDS": "0.3"}
    async with WorkerProcess(server.address, queue, APP, env=environ, heartbeat_timeout_seconds=1.0) as process:
        limits = Limits(max_total_tokens=limit)
        runs = [await client.start_agent("boss", tree, limits=limits) for tree in ("go", "b", "c")]
        for _ in range(2):
            await wait_for_bill(bills)
            await asyncio.sleep(chance.uniform(0, 0.8))
            await process.kill()
            await process.start()
        ends = await asyncio.gather(
            *(client.result(run.workflow_id, timeout=TIME) for run in runs), return_exceptions=True
        )
    assert all(isinstance(end, LimitExceeded) or not isinstance(end, BaseException) for end in ends), ends
    for tree in ("go", "b", "c"):
        assert 1_000 < sum(billed(bills, tree)) <= limit
