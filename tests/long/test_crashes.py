"""P2, P4: any process may be killed at any moment; nothing finished is repeated, nothing is done twice."""

import asyncio
import json
import os
import random
import signal
import time
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from temporalio.client import Client

from perdure.client import PerdureClient
from perdure.connection import connect
from perdure.contracts.run import RunResult
from perdure.devserver import DevServer
from tests.fakes.conversing import ConversingServer
from tests.fakes.replies import FakeCall, FakeReply
from tests.support.workers import WorkerProcess

APP = "tests.support.crash_app:app"
DEADLINE = timedelta(seconds=100)
RECOVERY_SECONDS = 5.0
START_SECONDS = 2.0
"""What a replacement may take to start; a slower start is the machine's, and is not counted."""


def _ask(turn: int, tool: str, **arguments: Any) -> FakeReply:
    return FakeReply(calls=(FakeCall(f"call_{turn}", tool, json.dumps(arguments)),))


def _twenty_turns(turn: int, messages: list[dict[str, Any]]) -> FakeReply:
    if turn == 19:
        return FakeReply(text="all done")
    return _ask(turn, "double", number=turn) if turn % 5 == 4 else _ask(turn, "record", number=turn)


@pytest.mark.alone
async def test_twenty_turns_survive_ten_kills(server: DevServer, temporal: Client, tmp_path: Path) -> None:
    log = tmp_path / "effects"
    queue = f"q-{uuid4().hex[:8]}"
    rng = random.Random(7)
    async with ConversingServer(_twenty_turns, delay_seconds=0.4) as fake:
        env = {**fake.env, "CRASH_LOG": str(log)}
        client = PerdureClient(temporal, task_queue=queue)
        kills: list[float] = []
        worker = WorkerProcess(server.address, queue, APP, env=env)
        await worker.start()
        run = await client.start_agent("crash", "go")
        for _ in range(10):
            before = len(fake.asked)
            while len(fake.asked) <= before:
                await asyncio.sleep(0.02)
            await asyncio.sleep(rng.uniform(0, 0.7))
            spare = WorkerProcess(server.address, queue, APP, env=env)
            starting = asyncio.create_task(spare.start())
            await worker.kill()
            killed = time.monotonic()
            await starting
            kills.append(killed + max(0.0, time.monotonic() - killed - START_SECONDS))
            worker = spare
        result = await client.result(run.workflow_id, timeout=DEADLINE)
        await worker.kill()
    assert isinstance(result, RunResult)
    assert result.output == "all done"
    assert result.counters.turns == 20
    _check_no_repeats(fake)
    slowest = max(_recoveries(fake, kills))
    assert slowest <= RECOVERY_SECONDS, f"the slowest recovery took {slowest:.1f} s"
    effects = Counter(log.read_text().split("\n")[:-1])
    assert len(effects) == 16
    print(f"recovery: max {slowest:.1f} s; effects: {len(effects)} keys, {effects.total()} executions")


def _check_no_repeats(fake: ConversingServer) -> None:
    turns = [turn for _, turn in fake.asked]
    assert turns == sorted(turns), f"a completed call was repeated: {turns}"
    assert len(turns) > 20, "no kill hit a model call"


def _recoveries(fake: ConversingServer, kills: list[float]) -> list[float]:
    """Return for each kill how long it took until the model was asked again."""
    return [min(at - kill for at, _ in fake.asked if at > kill) for kill in kills]


async def test_a_tool_that_is_not_idempotent_runs_at_most_once(
    server: DevServer, temporal: Client, tmp_path: Path
) -> None:
    log = tmp_path / "effects"
    queue = f"q-{uuid4().hex[:8]}"
    runs = 20

    def charge_then_end(turn: int, messages: list[dict[str, Any]]) -> FakeReply:
        return _ask(turn, "charge", amount=1) if turn == 0 else FakeReply(text=messages[-1]["content"])

    async with ConversingServer(charge_then_end) as fake:
        env = {**fake.env, "CRASH_LOG": str(log)}
        client = PerdureClient(temporal, task_queue=queue)
        async with WorkerProcess(server.address, queue, APP, env=env):
            started = [await client.start_agent("crash", f"charge {n}") for n in range(runs)]
            while not log.exists() or len(log.read_text().splitlines()) < runs:
                await asyncio.sleep(0.02)
        async with WorkerProcess(server.address, queue, APP, env=env):
            results = [await client.result(each.workflow_id, timeout=DEADLINE) for each in started]
    effects = Counter(log.read_text().splitlines())
    assert len(effects) == runs
    assert set(effects.values()) == {1}
    told = [str(result.output) for result in results if isinstance(result, RunResult)]
    assert sum("outcome unknown" in text for text in told) == runs


async def test_the_server_may_be_killed(tmp_path: Path) -> None:
    def decide(turn: int, messages: list[dict[str, Any]]) -> FakeReply:
        return FakeReply(text="survived") if turn == 6 else _ask(turn, "record", number=turn)

    async with (
        DevServer(tmp_path, port=0, ui_port=0) as server,
        ConversingServer(decide, delay_seconds=0.3) as fake,
    ):
        env = {**fake.env, "CRASH_LOG": str(tmp_path / "effects")}
        async with WorkerProcess(server.address, "q", APP, env=env):
            client = PerdureClient(await connect(address=server.address), task_queue="q")
            run = await client.start_agent("crash", "go")
            while len(fake.asked) < 3:
                await asyncio.sleep(0.02)
            assert server.pid is not None
            os.kill(server.pid, signal.SIGKILL)
            await server.wait()
            await server.start()
            result = await client.result(run.workflow_id, timeout=DEADLINE)
    assert isinstance(result, RunResult)
    assert result.output == "survived"
    assert [turn for _, turn in fake.asked] == sorted(turn for _, turn in fake.asked)
