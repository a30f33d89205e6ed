"""Record the histories of a release: `python -m tests.replay.record`. Recorded ones are never changed."""

import asyncio
import json
import tempfile
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from temporalio.client import WorkflowHistory

import perdure
from perdure import Limits
from perdure.client import PerdureClient, StartedRun
from perdure.connection import connect
from perdure.contracts.memory import MemoryBatch, MemoryEntry, MemoryState, memory_id
from perdure.contracts.names import MEMORY_WORKFLOW, PLAN_WORKFLOW, REMEMBER_SIGNAL, STATUS_QUERY
from perdure.contracts.plan import Plan, PlanAmendment, PlanRunInput, Task
from perdure.contracts.run import RunStatus
from perdure.contracts.selection import SelectBy, Strategy
from perdure.contracts.steering import Session
from perdure.devserver import DevServer
from perdure.errors import PerdureError
from tests.replay.app import CASES, MAP_ITEMS, TIME, make_app
from tests.replay.record_bills import main as record_bills
from tests.replay.record_money import main as record_money
from tests.replay.record_people import record_people
from tests.support.approval_app import app as approval_app
from tests.support.select_app import app as select_app
from tests.support.steer_app import app as steer_app
from tests.support.steer_app import steered_plan
from tests.support.workers import worker

STRATEGIES: tuple[Strategy, ...] = ("rules", "learned", "model")
HISTORIES = Path(__file__).parent / "histories"


async def record(folder: Path) -> None:
    """Run every case, and write the history of each run of it that isn't there yet."""
    config = {"limit.historyCount.suggestContinueAsNew": "60"}
    with tempfile.TemporaryDirectory() as state:
        async with DevServer(Path(state), port=0, ui_port=0, in_memory=True, dynamic_config=config) as server:
            temporal = await connect(address=server.address)
            async with worker(make_app(), temporal) as client, worker(make_app(delay_seconds=5), temporal) as slow:
                for case in CASES:
                    if case == "queues":
                        continue
                    await _record_case(case, slow if case == "cancelled" else client, folder)
                await _record_map(client, folder)
                await _record_fork(client, folder)
                await _record_memory(client, folder)
                await _record_session(slow, folder)
                await _record_resumed(slow, folder)
            queues = {"model_task_queue": "replay-models", "tool_task_queue": "replay-tools"}
            async with worker(make_app(), temporal, **queues) as client:
                await _record_case("queues", client, folder)
            async with worker(select_app, temporal, scoreboard="replay-scoreboard") as client:
                await _record_selection(client, folder)
            async with worker(steer_app, temporal) as client:
                await _record_plans(client, folder)
            async with worker(approval_app, temporal) as client:
                await record_people(client, folder, record_chain)
    await record_money(folder, record_chain)
    await record_bills(folder, record_chain)


async def _record_case(case: str, client: PerdureClient, folder: Path) -> None:
    agent, text = CASES[case]
    run = await client.start_agent(agent, text, id=f"replay-{case}")
    if case == "cancelled":
        await asyncio.sleep(1)
        await client.cancel(run.workflow_id)
    try:
        await client.result(run.workflow_id, timeout=TIME)
    except PerdureError as error:
        print(f"{case}: {error}")
    await record_chain(client, run, case, folder)


async def _record_session(client: PerdureClient, folder: Path) -> None:
    """Interrupt the first call, pause and go on, send another message, cancel; `client` has a slow model."""
    session = Session(idle_timeout=timedelta(hours=1))
    run = await client.start_agent("plain", "tools", id="replay-session", session=session)
    await asyncio.sleep(1)
    await client.send(run.workflow_id, "more", interrupt=True, message_id="one")
    await client.pause(run.workflow_id)
    await asyncio.sleep(1)
    await client.resume(run.workflow_id)
    await _until_idle(client, run.workflow_id)
    await client.send(run.workflow_id, "again", message_id="two")
    await asyncio.sleep(1)
    await _until_idle(client, run.workflow_id)
    await client.cancel(run.workflow_id)
    with suppress(PerdureError):
        await client.result(run.workflow_id, timeout=TIME)
    await record_chain(client, run, "session", folder)


async def _record_resumed(client: PerdureClient, folder: Path) -> None:
    """Terminate a run while its subagent is at work, and start it again; `client` has a slow model."""
    run = await client.start_agent("lead", "lead", id="replay-resumed")
    while "replay-resumed/plain-1" not in [each.workflow_id async for each in client.list(agent="plain")]:
        await asyncio.sleep(0.2)
    await client.terminate(run.workflow_id, reason="to be started again")
    again = await client.rerun(run.workflow_id)
    await client.result(run.workflow_id, timeout=TIME)
    await record_chain(client, StartedRun(workflow_id=run.workflow_id, run_id=again.run_id), "resumed", folder)


async def _until_idle(client: PerdureClient, workflow_id: str) -> None:
    while RunStatus.model_validate(await client.query(workflow_id, STATUS_QUERY)).state != "idle":
        await asyncio.sleep(0.2)


async def record_chain(client: PerdureClient, run: StartedRun, case: str, folder: Path) -> None:
    """Write the history of each run of a chain."""
    number, run_id = 0, run.run_id
    while run_id:
        history = await client.temporal.get_workflow_handle(run.workflow_id, run_id=run_id).fetch_history()
        _write(history, folder / f"{case}-{number}.json")
        closing = history.events[-1].workflow_execution_continued_as_new_event_attributes
        number, run_id = number + 1, closing.new_execution_run_id


async def _record_map(client: PerdureClient, folder: Path) -> None:
    run = await client.start_map("judge", MAP_ITEMS, max_parallel=4, on_error="collect", id="replay-map")
    await client.result(run.workflow_id, timeout=TIME)
    for name, workflow_id in {"map-0": "replay-map", "map-node-0": "replay-map/items-0-3"}.items():
        _write(await client.temporal.get_workflow_handle(workflow_id).fetch_history(), folder / f"{name}.json")


async def _record_memory(client: PerdureClient, folder: Path) -> None:
    """Remember, recall and forget, until it has continued as new for its length and for what it forgot."""
    owner = memory_id(client.task_queue, tenant="", user="ada")
    at = datetime.now(UTC)
    for number in range(30):
        entry = MemoryEntry(key=f"k{number % 7}", text="x" * 50, at=at, expires_at=at + timedelta(days=number + 1))
        batch = MemoryBatch(id=str(number), entries=(entry,), recalled=(f"k{number % 3}",), max_bytes=700)
        await client.temporal.start_workflow(
            MEMORY_WORKFLOW,
            MemoryState(),
            id=owner,
            task_queue=client.task_queue,
            start_signal=REMEMBER_SIGNAL,
            start_signal_args=[batch],
        )
        await asyncio.sleep(0.05)
    await client.memory.forget("ada", keys=["k1"])
    await asyncio.sleep(1)
    described = await client.temporal.get_workflow_handle(owner).describe()
    first = described.raw_description.workflow_execution_info.first_run_id
    await record_chain(client, StartedRun(workflow_id=owner, run_id=first), "memory", folder)


async def _record_fork(client: PerdureClient, folder: Path) -> None:
    """Fork a run that continued as new, with everything changed that can be; the fork continues as new too."""
    changes: dict[str, Any] = {"model": "scripted:y", "instructions": "Do it well."}
    run = await client.fork(
        "replay-continued",
        turn=3,
        message="Go on.",
        tool_results={"look": "another page"},
        limits=Limits(max_repeats=100),
        id="replay-fork",
        **changes,
    )
    await client.result(run.workflow_id, timeout=TIME)
    await record_chain(client, StartedRun(workflow_id=run.workflow_id, run_id=run.run_id), "fork", folder)


async def _record_selection(client: PerdureClient, folder: Path) -> None:
    for strategy in STRATEGIES:
        options = {"strategy": strategy, "model": "chooser:x", "kind": "carry"}
        name = f"select-{strategy}"
        run = await client.start_workflow("Choosing", [["glass", "inline", "china"], options], id=f"replay-{name}")
        await client.result(run.workflow_id, timeout=TIME)
        await record_chain(client, run, name, folder)
    tasks = [
        Task(
            id=strategy,
            agent="auto",
            input="glass",
            kind="carry",
            select=SelectBy(strategy=strategy),
            on_error="continue",
        )
        for strategy in STRATEGIES
    ]
    run = await client.start_workflow(
        PLAN_WORKFLOW, [PlanRunInput(plan=Plan(tasks=tuple(tasks)))], id="replay-plan-auto"
    )
    await client.result(run.workflow_id, timeout=TIME)
    await record_chain(client, run, "plan-auto", folder)
    for _ in range(25):
        await client.score("replay-select-rules/deft-1", 0.5)
        await asyncio.sleep(0.1)  # so that each has a workflow task of its own, and the history gets long
    described = await client.temporal.get_workflow_handle("replay-scoreboard").describe()
    first = described.raw_description.workflow_execution_info.first_run_id
    await record_chain(client, StartedRun(workflow_id="replay-scoreboard", run_id=first), "scoreboard", folder)


async def _record_plans(client: PerdureClient, folder: Path) -> None:
    request = PlanRunInput(goal="Find out.", planner="planner", synthesiser="writer")
    run = await client.start_workflow(PLAN_WORKFLOW, [request], id="replay-plan-written")
    await client.result(run.workflow_id, timeout=TIME)
    await record_chain(client, run, "plan-written", folder)
    request = PlanRunInput(plan=steered_plan(), goal="again")
    run = await client.start_workflow(PLAN_WORKFLOW, [request], id="replay-plan-steered")
    await asyncio.sleep(1.5)
    new = Task(id="new", agent="worker", needs=("slow",), input="{{artifacts.text}}")
    await client.amend_plan(run.workflow_id, PlanAmendment(tasks=(new,), drop=("extra",)))
    await client.retry_task(run.workflow_id, "skipped")
    await client.result(run.workflow_id, timeout=TIME)
    await record_chain(client, run, "plan-steered", folder)


def without_traces(value: Any) -> Any:
    """Return the same without stack traces, which tell where this was recorded, and which no replay looks at."""
    if isinstance(value, dict):
        return {name: without_traces(each) for name, each in value.items() if name != "stackTrace"}
    return [without_traces(each) for each in value] if isinstance(value, list) else value


def _write(history: WorkflowHistory, path: Path) -> None:
    if not path.exists():
        path.write_text(json.dumps(without_traces(json.loads(history.to_json())), indent=2))
        print(path)


if __name__ == "__main__":
    target = HISTORIES / perdure.__version__
    target.mkdir(parents=True, exist_ok=True)
    asyncio.run(record(target))
