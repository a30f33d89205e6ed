"""Workers and server are killed while people decide: no decision is lost, and none is made or acted on twice.

And while runs wait at their limits: they go on when somebody raises these.
"""

import asyncio
import json
import os
import random
import signal
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

from temporalio.service import RPCError

from perdure import Limits
from perdure._local_server import free_port
from perdure.client import PerdureClient
from perdure.client._identity import decider
from perdure.client._people import send_decision
from perdure.connection import connect
from perdure.contracts.waits import DecideRequest, Wait
from perdure.devserver import DevServer
from perdure.errors import InvalidInputError, NoWorkerError, RunNotFoundError
from tests.support.approval_app import turns
from tests.support.workers import WorkerProcess

APP = "tests.support.approval_app:app"
MONEY_APP = "tests.support.money_app:app"
RUNS = 5
CALLS = 2
TIME = timedelta(seconds=100)
T = TypeVar("T")


async def insist(ask: Callable[[], Awaitable[T]]) -> T:
    """Ask again while server or worker are down."""
    while True:
        try:
            return await ask()
        except (RPCError, NoWorkerError):
            await asyncio.sleep(0.2)


class Deciders:
    """Two people who decide everything that waits, at the same time, and not the same.

    Attributes:
        accepted: By run and wait, what was acknowledged.
        may_end: Set when all faults have come: the last decision of each run waits for it.
    """

    def __init__(self, client: PerdureClient, chance: random.Random) -> None:
        self.accepted: dict[tuple[str, str], list[DecideRequest]] = {}
        self.refused: list[str] = []
        self.may_end = asyncio.Event()
        self._client = client
        self._chance = chance

    async def decide_all(self, workflow_id: str, count: int) -> None:
        """Decide until so many decisions were acknowledged."""
        mine: set[str] = set()
        while len(mine) < count:
            found = await insist(lambda: self._client.waits(workflow_id))
            new = [wait for run in found for wait in run.waits if wait.id and wait.id not in mine]
            if len(mine) + len(new) == count:
                await self.may_end.wait()
            await asyncio.gather(*(self._decide(workflow_id, wait, number) for wait in new for number in range(2)))
            mine.update(wait.id for wait in new)
            await asyncio.sleep(self._chance.uniform(0, 0.6))

    async def _decide(self, workflow_id: str, wait: Wait, number: int) -> None:
        given: dict[str, Any] = {"verdict": self._chance.choice(["approve", "deny"])}
        if wait.kind == "question":
            given = {"verdict": "answer", "answer": f"answer {number}"}
        elif given["verdict"] == "approve" and self._chance.random() < 0.5:
            target = json.loads(wait.arguments)["target"] if wait.arguments else None
            given["arguments"] = json.dumps({"target": target, "count": 10 + number}) if target else None
        by, id = decider(self._client.temporal), f"{wait.id}-{number}"
        request = DecideRequest(wait=wait.id, by=by, id=id, reason=f"by {number}", **given)
        await asyncio.sleep(self._chance.uniform(0, 0.5))
        try:
            await insist(lambda: send_decision(self._client.temporal, workflow_id, request))
        except (InvalidInputError, RunNotFoundError) as error:  # the first decision may have ended the run
            self.refused.append(error.message)
        else:
            self.accepted.setdefault((workflow_id, wait.id), []).append(request)


def expected(request: DecideRequest, target: str) -> tuple[str, str]:
    """Return what the model is told of a call, and what the call writes down."""
    if request.verdict == "deny":
        return f"Not run: a person denied it. {request.reason}", ""
    if request.arguments is None:
        return f"deployed {target} x 1", f"deploy {target} 1"
    count = json.loads(request.arguments)["count"]
    return f"]\ndeployed {target} x {count}", f"deploy {target} {count}"


@asynccontextmanager
async def restarting_server(folder: Path) -> AsyncGenerator[tuple[str, Callable[[], Awaitable[None]]]]:
    """Yield a server's address, and what kills it and starts it again."""
    port, servers = free_port(), list[DevServer]()

    async def start() -> None:
        server = DevServer(folder, port=port, ui_port=0)
        await server.__aenter__()
        servers.append(server)

    async def restart() -> None:
        pid = servers[-1].pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        await servers[-1].__aexit__(None, None, None)
        await start()

    await start()
    try:
        yield servers[0].address, restart
    finally:
        await servers[-1].__aexit__(None, None, None)


async def test_decisions_outlive_worker_and_server(tmp_path: Path) -> None:
    chance, effects = random.Random(7), tmp_path / "effects"
    async with restarting_server(tmp_path / "server") as (address, restart):
        client = PerdureClient(await connect(address=address), task_queue="q")
        deciders = Deciders(client, chance)
        environ = {"EFFECTS": str(effects)}
        async with WorkerProcess(address, "q", APP, env=environ, heartbeat_timeout_seconds=1.0) as process:
            scripts = {
                f"run-{n}": [("deploy", {"target": f"r{n}c{c}"}) for c in range(CALLS)] for n in range(RUNS)
            }
            question = ("ask_human", {"question": "Which?"})
            for name, made in scripts.items():
                await client.start_agent("doer", turns([*made, question]), id=name)
            deciding = [asyncio.create_task(deciders.decide_all(name, CALLS + 1)) for name in scripts]
            kills = 0
            for kind in ("worker", "server", "worker"):
                await asyncio.sleep(chance.uniform(0.3, 1.2))
                kills += not all(task.done() for task in deciding)
                if kind == "server":
                    await restart()
                else:
                    await process.kill()
                    await process.start()
            deciders.may_end.set()
            async with asyncio.timeout(TIME.total_seconds()):
                await asyncio.gather(*deciding)
                results = [await insist(lambda n=name: client.result(n, timeout=TIME)) for name in scripts]
    assert kills == 3, "everything was decided before the faults came"
    assert {len(each) for each in deciders.accepted.values()} == {1}, "two decisions of one wait were accepted"
    assert len(deciders.refused) == len(deciders.accepted) == RUNS * (CALLS + 1)
    strange = [reason for reason in deciders.refused if "before, by " not in reason and "is closed" not in reason]
    assert strange == []
    happened = Counter(effects.read_text().splitlines() if effects.exists() else [])
    check(deciders, scripts, [result.output for result in results], happened)


async def test_runs_at_their_limits_outlive_worker_and_server(tmp_path: Path) -> None:
    """One by itself, and two that wait for the limit of their root. Nothing is billed before these are raised."""
    bills, few = tmp_path / "bills", Limits(max_total_tokens=500)
    async with restarting_server(tmp_path / "server") as (address, restart):
        client = PerdureClient(await connect(address=address), task_queue="q")
        environ = {"BILLS": str(bills), "CALL_SECONDS": "0.1"}
        async with WorkerProcess(address, "q", MONEY_APP, env=environ, heartbeat_timeout_seconds=1.0) as process:
            alone = (await client.start_agent("asker", "alone", limits=few)).workflow_id
            tree = (await client.start_map("asker", ["first", "second"], limits=few)).workflow_id
            waiting = [alone, f"{tree}/0", f"{tree}/1"]
            await asyncio.gather(*(waits_at_limit(client, each) for each in waiting))
            await process.kill()
            await restart()
            assert not bills.exists()
            await process.start()
            await asyncio.gather(*(waits_at_limit(client, each) for each in waiting))
            enough = Limits(max_total_tokens=20_000)
            for root in (alone, tree):
                await insist(lambda root=root: client.set_limits(root, enough))
            one = await insist(lambda: client.result(alone, timeout=TIME))
            all_of_them = await insist(lambda: client.result(tree, timeout=TIME))
    assert one.output == "done"
    assert [each.output for each in all_of_them.outcomes] == ["done", "done"]
    assert sorted(line.split()[0] for line in bills.read_text().splitlines()) == ["alone", "first", "second"]


async def waits_at_limit(client: PerdureClient, workflow_id: str) -> None:
    async with asyncio.timeout(TIME.total_seconds()):
        while True:
            with suppress(RunNotFoundError):
                if (await insist(lambda: client.query(workflow_id, "perdure.status")))["state"] == "waiting_limit":
                    return
            await asyncio.sleep(0.1)


def check(deciders: Deciders, scripts: dict[str, Any], outputs: list[str], happened: "Counter[str]") -> None:
    """Compare what came of each run with what was decided; a kill in mid-call leaves its outcome unknown."""
    allowed: set[str] = set()
    for (name, made), output in zip(scripts.items(), outputs, strict=True):
        decisions = {w: d[0] for (run, w), d in deciders.accepted.items() if run == name}
        told = output.split(" | ")
        answers = [d.answer for d in decisions.values() if d.verdict == "answer"]
        assert told[-1:] == answers
        by_text = {expected(d, made[i][1]["target"]) for d in decisions.values() for i in range(CALLS)}
        for text in told[:-1]:
            assert "outcome unknown" in text or any(text.endswith(known) for known, _ in by_text), text
        allowed |= {effect for _, effect in by_text if effect}
        verdicts = Counter(d.verdict for d in decisions.values())
        denied = sum("a person denied it" in text for text in told)
        assert denied == verdicts["deny"], "a decision was lost"
    assert set(happened) <= allowed
    assert all(count == 1 for count in happened.values()), "a call was made twice"
