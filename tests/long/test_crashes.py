"""P2, P4: any process may be killed at any moment; nothing finished is repeated, nothing is done twice."""

import asyncio
import json
import os
import random
import signal
import time
from collections import Counter
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from temporalio.client import Client

from perdure.client import PerdureClient
from perdure.connection import connect
from perdure.contracts.names import CALL_MODEL
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
LATE_SECONDS = 1.0
"""What the server may take to record what a worker told it just before its end: no call is repeated sooner."""


@dataclass(frozen=True)
class Kill:
    """A worker's end, and when its replacement was up."""

    at: float
    ended_at: float
    replaced_at: float

    @property
    def forgiven(self) -> float:
        """How much longer the replacement took to start than it may."""
        return max(0.0, self.replaced_at - self.at - START_SECONDS)


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
        kills: list[Kill] = []
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
            killed = time.monotonic()
            await worker.kill()
            ended = time.monotonic()
            await starting
            kills.append(Kill(killed, ended, time.monotonic()))
            worker = spare
        result = await client.result(run.workflow_id, timeout=DEADLINE)
        await worker.kill()
        recorded = await _recorded(temporal, run.workflow_id)
    assert isinstance(result, RunResult)
    assert result.output == "all done"
    assert result.counters.turns == 20
    hits = _hits(fake, recorded, kills)
    assert hits.total() > 0, "no kill hit a model call"
    _check_calls(fake, recorded, hits)
    recoveries = _recoveries(fake, kills)
    slowest = max(took - kill.forgiven for took, kill in zip(recoveries, kills, strict=True))
    assert slowest <= RECOVERY_SECONDS, f"the slowest recovery took {slowest:.1f} s"
    effects = Counter(log.read_text().split("\n")[:-1])
    assert len(effects) == 16
    starts = max(kill.replaced_at - kill.at for kill in kills)
    print(
        f"from the kill to the next model call: max {max(recoveries):.1f} s; a worker's start: max {starts:.1f} s"
    )
    print(f"without what a start took beyond {START_SECONDS:g} s: max {slowest:.1f} s")
    print(f"model calls: {len(fake.asked)}, {hits.total()} of them cut and repeated")
    print(f"effects: {len(effects)} keys, {effects.total()} executions")


async def _recorded(temporal: Client, workflow_id: str) -> list[float]:
    """Return when the answer of each turn was recorded, by this process's monotonic clock."""
    offset = time.time() - time.monotonic()
    calls: dict[int, float] = {}
    for each in (await temporal.get_workflow_handle(workflow_id).fetch_history()).events:
        if each.activity_task_scheduled_event_attributes.activity_type.name == CALL_MODEL:
            calls[each.event_id] = float("inf")
        elif (scheduled := each.activity_task_completed_event_attributes.scheduled_event_id) in calls:
            calls[scheduled] = each.event_time.ToNanoseconds() / 1e9 - offset
    return list(calls.values())


def _hits(fake: ConversingServer, recorded: list[float], kills: list[Kill]) -> Counter[int]:
    """Return how many of the kills cut the call of each turn.

    Each worker that was killed had asked for something: the last of that was cut, unless its answer was recorded.
    """
    last = [(kill, max(each for each in fake.asked if each[0] < kill.ended_at)[1]) for kill in kills]
    return Counter(turn for kill, turn in last if recorded[turn] > kill.ended_at + LATE_SECONDS)


def _check_calls(fake: ConversingServer, recorded: list[float], hits: Counter[int]) -> None:
    """Check that each turn was asked for once, and once more for each kill that cut it."""
    asked = Counter(turn for _, turn in fake.asked)
    assert asked == Counter({turn: 1 + hits[turn] for turn in range(len(recorded))})
    late = [(at, turn) for at, turn in fake.asked if at > recorded[turn]]
    assert late == [], "a call was made again after its answer was recorded"


def _recoveries(fake: ConversingServer, kills: list[Kill]) -> list[float]:
    """Return for each kill how long it took until the model was asked again."""
    return [min(at - kill.at for at, _ in fake.asked if at > kill.ended_at) for kill in kills]


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
            temporal = await connect(address=server.address)
            client = PerdureClient(temporal, task_queue="q")
            run = await client.start_agent("crash", "go")
            while len(fake.asked) < 3:
                await asyncio.sleep(0.02)
            assert server.pid is not None
            os.kill(server.pid, signal.SIGKILL)
            await server.wait()
            await server.start()
            result = await client.result(run.workflow_id, timeout=DEADLINE)
            recorded = await _recorded(temporal, run.workflow_id)
    assert isinstance(result, RunResult)
    assert result.output == "survived"
    assert len(recorded) == 7
    _check_calls(fake, recorded, Counter())  # the worker lives, and its call with it
