"""Record histories of runs under a limit of money or tokens: `python -m tests.replay.record_money`."""

import asyncio
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import perdure
from perdure import Agent, App, Limits, ModelSettings
from perdure.client import PerdureClient, StartedRun
from perdure.connection import connect
from perdure.contracts.names import PLAN_WORKFLOW
from perdure.contracts.plan import Plan, PlanRunInput, Task
from perdure.devserver import DevServer
from perdure.errors import PerdureError
from perdure.testing import ScriptedModel, calls
from tests.support.biller import Biller, think
from tests.support.money_workflows import Generations, Spending
from tests.support.workers import worker

TIME = timedelta(seconds=120)
SETTINGS = ModelSettings(max_output_tokens=1000)
Write = Callable[[PerdureClient, StartedRun, str, Path], Awaitable[None]]


def make_app(**options: Any) -> App:
    """Return an app whose vendor answers some calls, and cuts, refuses or bills others without saying how much."""
    biller = Biller(next_end=lambda number: ["ok", "ok", "ok", "busy", "broken", "unknown"][number % 6], turns=2)
    member = Agent("worker", model="biller:x", tools=[think], settings=SETTINGS, description="Works.", **options)
    orders = calls(*[("worker", {"input": f"part {number}"}) for number in range(4)])
    boss = Agent("boss", model="scripted:x", tools=[member.as_tool()], settings=SETTINGS)
    script = ScriptedModel([orders, "all parts are done"])
    return App(agents=[member, boss], providers=[biller, script], workflows=[Spending, Generations])


async def record_ends(client: PerdureClient, folder: Path, write: Write) -> None:
    """Record what ends at a limit: a run, a map with a node and an item, a plan, workflows of the user's own."""
    run = await client.start_agent("worker", "go", id="replay-money-single", limits=_tokens(6_000))
    await _end(client, run, "money-single", folder, write)
    run = await client.start_agent("boss", "go", id="replay-money-tree", limits=_tokens(14_000))
    await _end(client, run, "money-tree", folder, write)
    await write(client, await _child(client, "replay-money-tree/worker-1"), "money-member", folder)
    items = [f"item {number}" for number in range(12)]
    run = await client.start_map(
        "worker", items, max_parallel=4, on_error="collect", id="replay-money-map", limits=_tokens(12_000)
    )
    await _end(client, run, "money-map", folder, write)
    await write(client, await _child(client, "replay-money-map/items-0-3"), "money-node", folder)
    await write(client, await _child(client, "replay-money-map/0"), "money-item", folder)
    tasks = tuple(Task(id=f"t{n}", agent="worker", input=f"part {n}", on_error="continue") for n in range(4))
    request = PlanRunInput(plan=Plan(tasks=tasks))
    run = await client.start_workflow(PLAN_WORKFLOW, [request], id="replay-money-plan", limits=_tokens(9_000))
    await _end(client, run, "money-plan", folder, write)
    run = await client.start_workflow("Spending", [1], id="replay-money-own", limits=_tokens(20_000))
    await _end(client, run, "money-own", folder, write)
    await write(client, await _child(client, "replay-money-own/below"), "money-below", folder)
    run = await client.start_workflow("Generations", [5], id="replay-money-again", limits=_tokens(12_000))
    await _end(client, run, "money-again", folder, write)


async def record_asking(client: PerdureClient, folder: Path, write: Write) -> None:
    """Record a map whose items wait for a higher limit."""
    items = [f"item {number}" for number in range(3)]
    run = await client.start_map("worker", items, max_parallel=3, id="replay-money-asking", limits=_tokens(5_000))
    await _wait_for_asking(client, "replay-money-asking/0")
    await client.set_limits(run.workflow_id, _tokens(90_000))
    await _end(client, run, "money-asking", folder, write)
    node = await _child(client, "replay-money-asking/items-0-2")
    await write(client, node, "money-asking-node", folder)
    await write(client, await _child(client, "replay-money-asking/0"), "money-asking-item", folder)


async def _wait_for_asking(client: PerdureClient, workflow_id: str) -> None:
    async with asyncio.timeout(TIME.total_seconds()):
        while True:
            with suppress(PerdureError):
                if (await client.query(workflow_id, "perdure.status"))["state"] == "waiting_limit":
                    return
            await asyncio.sleep(0.2)


def _tokens(count: int) -> Limits:
    return Limits(max_total_tokens=count)


async def _child(client: PerdureClient, workflow_id: str) -> StartedRun:
    described = await client.temporal.get_workflow_handle(workflow_id).describe()
    return StartedRun(workflow_id=workflow_id, run_id=described.run_id)


async def _end(client: PerdureClient, run: StartedRun, case: str, folder: Path, write: Write) -> None:
    with suppress(PerdureError):
        await client.result(run.workflow_id, timeout=TIME)
    await write(client, run, case, folder)


async def main(folder: Path, write: Write) -> None:
    """Run them all on a server of their own."""
    with tempfile.TemporaryDirectory() as state:
        async with DevServer(Path(state), port=0, ui_port=0, in_memory=True) as server:
            temporal = await connect(address=server.address)
            async with worker(make_app(), temporal) as client:
                await record_ends(client, folder, write)
            async with worker(make_app(on_limit="ask"), temporal) as client:
                await record_asking(client, folder, write)


if __name__ == "__main__":
    from tests.replay.record import HISTORIES, record_chain

    asyncio.run(main(HISTORIES / perdure.__version__, record_chain))
