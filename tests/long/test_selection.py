"""Choosing agents, and the scoreboard, on a real server: outcomes, batches, restarts, and doing without."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from click.testing import CliRunner
from pydantic import TypeAdapter
from temporalio.api.enums.v1 import EventType
from temporalio.client import Client, WorkflowExecutionStatus, WorkflowHistory
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import Replayer

from perdure.cli import cli
from perdure.client import PerdureClient
from perdure.connection import connect
from perdure.contracts.names import OUTCOMES_SIGNAL, PLAN_WORKFLOW, SCOREBOARD_WORKFLOW
from perdure.contracts.plan import Plan, PlanResult, PlanRunInput, RetryWith, Task
from perdure.contracts.scores import (
    Outcome,
    OutcomeBatch,
    ScoreboardState,
    ScoreRow,
    ScoreTable,
    scoreboard_id,
)
from perdure.contracts.selection import SelectBy, Selection
from perdure.devserver import DevServer
from perdure.errors import InvalidInputError, NoCandidateError, RunCancelled, RunNotFoundError
from perdure.wiring import sandboxed_runner
from perdure.workflows.interceptor import PerdureInterceptor
from perdure.workflows.plan_workflow import PlanWorkflow
from perdure.workflows.scoreboard import Scoreboard
from tests.support.select_app import app
from tests.support.select_workflows import Choosing
from tests.support.workers import WorkerProcess, worker

TIME = timedelta(seconds=60)


@pytest.fixture
async def client(temporal: Client) -> AsyncIterator[PerdureClient]:
    async with worker(app, temporal) as running:  # with a scoreboard of its own
        yield running


Command = Callable[..., Awaitable[str]]


@pytest.fixture
def out(client: PerdureClient, server: DevServer) -> Command:
    environ = {"TEMPORAL_ADDRESS": server.address, "PERDURE_TASK_QUEUE": client.task_queue}

    async def run(*args: str, code: int = 0) -> str:
        result = await asyncio.to_thread(CliRunner().invoke, cli, args, env=environ)
        assert result.exit_code == code, result.output
        return result.stdout or result.stderr

    return run


async def choose(client: PerdureClient, *texts: str, **options: Any) -> tuple[str, list[Selection]]:
    run = await client.start_workflow("Choosing", [list(texts), options])
    told = await client.result(run.workflow_id, timeout=TIME)
    return run.workflow_id, TypeAdapter(list[Selection]).validate_python(told)


def summary(table: ScoreTable) -> set[tuple[str, str, int, int]]:
    return {(row.kind, row.name, row.successes, row.failures) for row in table.rows}


async def table_with(client: PerdureClient, outcomes: int) -> ScoreTable:
    """Wait until so many outcomes are there."""
    async with asyncio.timeout(30):
        while (table := await client.scoreboard()).outcomes < outcomes:
            await asyncio.sleep(0.1)
    return table


async def board_history(client: PerdureClient) -> WorkflowHistory:
    handle = client.temporal.get_workflow_handle(scoreboard_id(None, client.task_queue))
    return await handle.fetch_history()


def signals(history: WorkflowHistory) -> int:
    return sum(event.event_type == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED for event in history.events)


async def test_outcomes_come_in_one_signal_and_are_learned_from(client: PerdureClient) -> None:
    """After eight tasks each, who always fails is chosen seldom; and all of that replays."""
    for agent in ("clumsy", "deft"):
        await choose(client, *["a", "inline b"] * 4, candidates=[agent], kind="carry")
    table = await table_with(client, 16)
    assert summary(table) == {("carry", "clumsy", 0, 8), ("carry", "deft", 8, 0), ("carry", "work:x", 8, 0)}
    deft = next(row for row in table.rows if row.name == "deft")
    assert (deft.mean_score, deft.mean_cost_usd) == (0.5, None)
    assert (deft.mean_seconds or 0) > 0
    workflow_id, chosen = await choose(client, *"abcdefgh", strategy="learned", kind="carry")
    by_draw = [each for each in chosen if not each.note]
    assert {each.strategy for each in by_draw} == {"learned"}
    assert [each.agent for each in by_draw].count("deft") >= 6
    await table_with(client, 24)
    board = await board_history(client)
    assert signals(board) == 3
    history = await client.temporal.get_workflow_handle(workflow_id).fetch_history()
    for each, cls in ((board, Scoreboard), (history, Choosing)):
        await _replay(each, cls)


async def test_the_record_says_who_was_chosen_and_why(client: PerdureClient) -> None:
    workflow_id, chosen = await choose(client, "glass", kind="carry")
    shown = await client.show(workflow_id)
    assert shown.selections == tuple(chosen)
    assert (chosen[0].agent, chosen[0].why) == ("deft", "1 of its labels in the text")


async def test_a_model_chooses_and_is_asked_again(client: PerdureClient) -> None:
    workflow_id, chosen = await choose(client, "x", strategy="model", model="chooser:x", kind="carry")
    (found,) = chosen
    assert (found.agent, found.strategy, found.why) == ("deft", "model", "chooser:x: It holds on.")
    assert (found.usage.output_tokens, found.usage.cost_usd) == (30, None)
    assert (await client.show(workflow_id)).selections == tuple(chosen)


@pytest.mark.parametrize(
    ("model", "note"),
    [("useless:x", "gave no usable answer 3 times"), ("nowhere:x", "could not be asked (There is no provider")],
)
async def test_without_the_models_help_rules_choose(client: PerdureClient, model: str, note: str) -> None:
    _, chosen = await choose(client, "glass", strategy="model", model=model)
    assert (chosen[0].agent, chosen[0].strategy) == ("deft", "rules")
    assert note in chosen[0].note
    assert chosen[0].note.endswith(": chosen by rules")


async def test_a_scoreboard_that_does_not_answer_is_in_nobodys_way(client: PerdureClient) -> None:
    """Its Task Queue has no worker. It is waited for a second, once for all; outcomes are taken all the same."""
    board = scoreboard_id(None, client.task_queue)
    await client.temporal.start_workflow(
        SCOREBOARD_WORKFLOW, ScoreboardState(), id=board, task_queue=f"nobody-{uuid4().hex}"
    )
    began = time.monotonic()
    _, chosen = await choose(client, "glass", "glass", "glass", strategy="learned", kind="carry")
    taken = time.monotonic() - began
    assert [(each.agent, each.strategy, each.note) for each in chosen] == [
        ("deft", "rules", "the scoreboard did not answer within 1 s: chosen by rules")
    ] * 3
    assert 1 <= taken < 6, "a machine under load takes longer, but no timeout is this long"
    assert signals(await board_history(client)) == 1


async def test_many_outcomes_are_few_signals(client: PerdureClient) -> None:
    run = await client.start_workflow("Telling", ["deft", 250, "return"])
    await client.result(run.workflow_id, timeout=TIME)
    table = await table_with(client, 250)
    assert summary(table) == {("told", "deft", 225, 25)}
    assert signals(await board_history(client)) == 3


async def test_outcomes_leave_however_a_run_ends(client: PerdureClient) -> None:
    run = await client.start_workflow("Telling", ["deft", 10, "continue"])
    await client.result(run.workflow_id, timeout=TIME)
    await table_with(client, 20)
    run = await client.start_workflow("Telling", ["deft", 10, "fail"])
    with pytest.raises(InvalidInputError, match="score: Input should be less than or equal to 1"):
        await client.result(run.workflow_id, timeout=TIME)
    await table_with(client, 30)
    run = await client.start_workflow("Telling", ["deft", 10, "wait"])
    handle = client.temporal.get_workflow_handle(run.workflow_id)
    async with asyncio.timeout(30):
        while (await handle.describe()).history_length < 4:  # its first task is done
            await asyncio.sleep(0.05)
    await client.cancel(run.workflow_id)
    with pytest.raises(RunCancelled):
        await client.result(run.workflow_id, timeout=TIME)
    assert (await table_with(client, 40)).outcomes == 40
    assert signals(await board_history(client)) == 4


async def test_nobody_can_do_it(client: PerdureClient) -> None:
    run = await client.start_workflow("Impossible", [])
    with pytest.raises(NoCandidateError, match="No agent of clumsy, deft has the capabilities to fly"):
        await client.result(run.workflow_id, timeout=TIME)


async def test_a_person_judges_a_run(client: PerdureClient) -> None:
    workflow_id, _ = await choose(client, "glass", kind="carry")
    assert (await client.scoreboard(kind="other")).rows == ()
    outcome = await client.score(f"{workflow_id}/deft-1", 0.25, note="chipped")
    assert (outcome.agent, outcome.kind, outcome.score) == ("deft", "carry", 0.25)
    await table_with(client, 2)
    rows: dict[str, ScoreRow] = {row.name: row for row in (await client.scoreboard(kind="carry")).rows}
    assert (rows["deft"].successes, rows["deft"].scores, rows["deft"].note) == (1, 2, "chipped")
    with pytest.raises(InvalidInputError, match="is a Choosing, and only an agent's run can be scored"):
        await client.score(workflow_id, 1)
    with pytest.raises(RunNotFoundError):
        await client.score("nope", 1)
    for bad in (-0.1, 1.1, float("nan")):
        with pytest.raises(InvalidInputError, match="between 0"):
            await client.score(f"{workflow_id}/deft-1", bad)


async def test_a_plan_leaves_it_open_who_does_a_task(client: PerdureClient, out: Command) -> None:
    """Each choice is told, and every task's outcome is: one batch, whatever the tasks are called."""
    tasks = (
        Task(id="a", agent="auto", input="glass", kind="carry"),
        Task(id="b", agent="auto", input="x", kind="carry", candidates=("deft",), needs=("a",)),
        Task(
            id="c",
            agent="auto",
            input="x",
            select=SelectBy(tags=("china",)),
            on_error=RetryWith(retry_with="deft"),
        ),
        Task(id="d", agent="auto", input="x", select=SelectBy(capabilities=("to fly",)), on_error="continue"),
        Task(id="e", agent="deft", input="x"),
    )
    run = await client.start_workflow(PLAN_WORKFLOW, [PlanRunInput(plan=Plan(tasks=tasks))])
    result: PlanResult = await client.result(run.workflow_id, timeout=TIME)
    assert [(each.agent, each.state, each.chosen_by) for each in result.tasks] == [
        ("deft", "done", "rules: 1 of its labels in the text"),
        ("deft", "done", "rules: the only candidate"),
        ("deft", "done", ""),  # clumsy, by rules, failed
        ("auto", "failed", ""),
        ("deft", "done", ""),
    ]
    assert [each.type for each in result.failures] == ["NoCandidateError"]
    table = await table_with(client, 5)
    agents = {each for each in summary(table) if each[1] != "work:x"}
    assert agents == {("carry", "deft", 2, 0), ("", "clumsy", 0, 1), ("", "deft", 2, 0)}
    assert signals(await board_history(client)) == 1
    outcome = await client.score(f"{run.workflow_id}/plan-1/a", 1)
    assert (outcome.agent, outcome.kind) == ("deft", "carry")
    assert len((await client.show(run.workflow_id)).selections) == 3
    assert "by rules: 1 of its labels in the text" in await out("show", run.workflow_id)
    await _replay(await client.temporal.get_workflow_handle(run.workflow_id).fetch_history(), PlanWorkflow)


async def test_the_command_line(client: PerdureClient, out: Command) -> None:
    assert (await out("scoreboard")).endswith("No outcomes yet.\n")
    assert await out("scoreboard", "-o", "json") == "[]\n"
    workflow_id, _ = await choose(client, "glass", kind="carry")
    run = f"{workflow_id}/deft-1"
    assert await out("score", run, "0.25", "--note", "chipped") == "Scored deft 0.25 for carry.\n"
    await table_with(client, 2)
    (row,) = [json.loads(line) for line in (await out("scoreboard", "-o", "jsonl")).splitlines() if "deft" in line]
    assert (row["kind"], row["successes"], row["scores"], row["note"]) == ("carry", 1, 2, "chipped")
    assert "chipped" in await out("scoreboard", "--kind", "carry")
    assert (await out("scoreboard", "--kind", "other")).endswith("No outcomes yet.\n")
    assert "chose         deft by rules: 1 of its labels in the text" in await out("show", workflow_id)
    assert "only an agent's run can be scored" in await out("score", workflow_id, "1", code=2)
    assert "There is no run 'nope'" in await out("score", "nope", "1", code=2)


async def test_restarts_lose_nothing(tmp_path: Path) -> None:
    """It continues as new, its worker is killed, and a new one answers the same."""
    config = {"limit.historyCount.suggestContinueAsNew": "30"}
    async with DevServer(tmp_path, port=0, ui_port=0, in_memory=True, dynamic_config=config) as server:
        client = PerdureClient(await connect(address=server.address), task_queue="q")
        async with WorkerProcess(server.address, "q", "tests.support.select_app:app") as process:
            for number in range(18):
                await _signal(client, number)
                if number % 5 == 0:
                    await _signal(client, number)  # a batch that comes again
                await table_with(client, number + 1)
            before = await client.scoreboard()
            handle = client.temporal.get_workflow_handle(scoreboard_id(None, "q"))
            described = await handle.describe()
            assert described.run_id != described.raw_description.workflow_execution_info.first_run_id
            await process.kill()
            await process.start()
            assert await client.scoreboard() == before
    assert summary(before) == {("k0", "a", 6, 0), ("k1", "a", 6, 0), ("k2", "a", 6, 0)}


async def test_a_long_time_without_a_worker_and_nonsense_do_it_no_harm(temporal: Client) -> None:
    """All that waited comes in one workflow task, which has two seconds; it is entered in several."""
    client = PerdureClient(temporal, task_queue=f"q-{uuid4().hex[:8]}")
    for start in range(0, 250, 50):
        await asyncio.gather(*(_signal(client, number, count=20) for number in range(start, start + 50)))
    handle = temporal.get_workflow_handle(scoreboard_id(None, client.task_queue))
    for nonsense in ([], [3], [{"id": "x", "outcomes": [{"agent": "a", "score": 7}]}]):
        await handle.signal(OUTCOMES_SIGNAL, args=nonsense)
    async with worker(app, temporal, queue=client.task_queue):
        table = await table_with(client, 5000)
        await _signal(client, 1000)
        await table_with(client, 5001)
    assert sum(row.successes for row in table.rows) == 5000
    events = [event.event_type for event in (await handle.fetch_history()).events]
    assert events.count(EventType.EVENT_TYPE_TIMER_FIRED) == 2, "250 batches are entered in three goes"
    assert (await handle.describe()).status == WorkflowExecutionStatus.RUNNING


async def _signal(client: PerdureClient, number: int, *, count: int = 1) -> None:
    outcome = Outcome(agent="a", kind=f"k{number % 3}", is_success=True, cost_usd=0.1)
    await client.temporal.start_workflow(
        SCOREBOARD_WORKFLOW,
        ScoreboardState(),
        id=scoreboard_id(None, client.task_queue),
        task_queue=client.task_queue,
        start_signal=OUTCOMES_SIGNAL,
        start_signal_args=[OutcomeBatch(id=str(number), outcomes=(outcome,) * count)],
    )


async def _replay(history: WorkflowHistory, cls: type) -> None:
    replayer = Replayer(
        workflows=[cls],
        data_converter=pydantic_data_converter,
        interceptors=[PerdureInterceptor()],
        workflow_runner=sandboxed_runner(),
        unsandboxed_workflow_runner=sandboxed_runner(),
    )
    await replayer.replay_workflow(history)
