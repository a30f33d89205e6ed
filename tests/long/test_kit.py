"""The test kit: agents on the time-skipping server, cassettes of their runs, and a worker that is killed."""

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from temporalio.client import Client

from perdure import Agent, App
from perdure.contracts.steering import Session
from perdure.devserver import DevServer
from perdure.errors import InvalidInputError, ModelCallError, StillRunningError
from perdure.testing import (
    AgentRun,
    Cassette,
    RecordingModel,
    ScriptedModel,
    assert_never_exceeds,
    assert_tool_called,
    check_replay,
    kill_worker_at,
    record_cassette,
    replay_cassette,
    stored_histories,
)
from perdure.testing.killing import reference_of
from perdure.testing.pytest_plugin import PerdureServer
from tests.support.cli_project import CliProject
from tests.support.kit_app import FEW, SCRIPT, app, changed, look, reader
from tests.support.workers import worker


@pytest.fixture(scope="module")
def run(perdure_server: PerdureServer) -> AgentRun:
    return perdure_server.run_agent(app, "reader", "go")


@pytest.fixture(scope="module")
def cassette(perdure_server: PerdureServer, run: AgentRun) -> Cassette:
    return perdure_server.run(record_cassette(perdure_server.environment.client, run.workflow_id))


def test_a_run_and_what_is_asserted_of_it(run: AgentRun) -> None:
    assert (run.output, run.error, run.counters.turns) == ("three pages", None, 3)
    assert assert_tool_called(run, "look", {"page": 2}).result == "page 2"
    assert_tool_called(run, "look", times=2)
    assert_tool_called(run, "write", times=0)
    with pytest.raises(AssertionError, match=r"'look' should be called with .* at least once.*\n  look\(.*-> ok"):
        assert_tool_called(run, "look", {"page": 9})
    assert_never_exceeds(run, turns=3, tool_calls=3, parallel_tool_calls=2, time=timedelta(minutes=1))
    for bound, words in {"turns": "3 turns", "tool_calls": "3 tool calls", "tokens": "tokens"}.items():
        with pytest.raises(AssertionError, match=words):
            assert_never_exceeds(run, **{bound: 2})  # pyright: ignore[reportArgumentType]
    with pytest.raises(AssertionError, match="2 tool calls at once"):
        assert_never_exceeds(run, parallel_tool_calls=1)
    with pytest.raises(AssertionError, match="The run took"):
        assert_never_exceeds(run, time=timedelta(0))
    with pytest.raises(InvalidInputError, match="cost"):
        assert_never_exceeds(run, cost_usd=1)


def test_waits_between_attempts_take_no_time(agent_test: Any) -> None:
    model = ScriptedModel(lambda request, messages: model_errors.pop() if model_errors else "at last")
    model_errors: list[Any] = [ModelCallError("busy", kind="transient", status_code=503)] * 3
    recording = RecordingModel(model)
    run = agent_test(App(agents=[reader], providers=[recording]), "reader", "go")
    assert run.output == "at last"
    assert [call.reply is None for call in recording.calls] == [True, True, True, False]
    assert [reply.text for reply in recording.replies] == ["at last"]
    assert_never_exceeds(run, turns=1)


async def test_a_failure_is_returned_also_to_a_test_that_is_a_coroutine(agent_test: Any) -> None:
    model = ScriptedModel([ModelCallError("no key", kind="fatal", status_code=401)])
    run = agent_test(App(agents=[reader], providers=[model]), "reader", "go")
    assert "no key" in run.text
    assert run.output is None


def test_a_run_that_waits_is_told(agent_test: Any) -> None:
    slow = App(agents=[Agent("slow", model="scripted:x")], providers=[ScriptedModel(["x"], delay_seconds=5)])
    with pytest.raises(StillRunningError, match="isn't over after 1 s"):
        agent_test(slow, "slow", "go", timeout=timedelta(seconds=1))


def test_a_cassette_is_a_file_that_replays(
    cassette: Cassette, perdure_server: PerdureServer, tmp_path: Path
) -> None:
    path = tmp_path / "reader.json"
    path.write_text(cassette.to_json())
    read = Cassette.load(path)
    assert read == cassette
    assert [each.message.text for each in read.root.replies] == ["", "", "three pages"]
    assert (read.root.tools[0].name, read.root.tools[0].arguments) == ("look", '{"page": 1}')
    report = perdure_server.run(check_replay(app, stored_histories(tmp_path)))
    assert (report.runs, report.faults) == (1, ())


def test_what_looks_like_a_key_is_not_in_its_index(cassette: Cassette) -> None:
    told = [part.model_dump_json() for each in cassette.root.tools for part in each.message.parts]
    assert "page 3, by ***" in told[-1]
    assert "abc.def" not in "".join(told)


def replay(server: PerdureServer, today: App, cassette: Cassette) -> Any:
    return server.run(replay_cassette(today, cassette, environment=server.environment))


def test_an_agent_replays_against_it_offline(cassette: Cassette, perdure_server: PerdureServer) -> None:
    result = replay(perdure_server, changed(), cassette)
    result.assert_same()
    assert result.run.output == "three pages"


def test_it_tells_where_behaviour_departs(cassette: Cassette, perdure_server: PerdureServer) -> None:
    result = replay(perdure_server, changed(instructions="Read well.", tools=[look], limits=FEW), cassette)
    assert {each.kind for each in result.departures} >= {"instructions", "tools", "limits", "message"}
    with pytest.raises(AssertionError, match=r"instructions: was 'Read\.', is 'Read well\.'"):
        result.assert_same(but=["limits"])
    changed_input = cassette.model_copy(update={"runs": (shortened(cassette),)})
    result = replay(perdure_server, changed(), changed_input)
    assert [each.kind for each in result.departures] == ["call", "end"]


def shortened(cassette: Cassette) -> Any:
    return cassette.root.model_copy(update={"replies": cassette.root.replies[:2]})


def test_a_worker_dies_and_another_goes_on(agent_test: Any) -> None:
    with kill_worker_at(turn=2) as killing:
        run = agent_test(app, "reader", "go", timeout=timedelta(seconds=60))
    assert killing.kills == 1
    assert run.output == "three pages"
    assert_tool_called(run, "look", times=2)


def test_an_app_in_no_module_can_not_be_killed() -> None:
    assert reference_of(app) == "tests.support.kit_app:app"
    with pytest.raises(InvalidInputError, match="variable of a module"):
        reference_of(App(agents=[reader], providers=[ScriptedModel(SCRIPT)]))


async def test_the_command_line_checks_and_exports_runs(
    server: DevServer, temporal: Client, tmp_path: Path
) -> None:
    project = CliProject(tmp_path, {"TEMPORAL_ADDRESS": server.address})
    async with worker(app, temporal) as client:
        run = await client.start_agent("reader", "go", session=Session(idle_timeout=timedelta(hours=1)))
        while not any("three pages" in repr(each) for each in await client.transcript(run.workflow_id)):
            await asyncio.sleep(0.1)
        chosen = ("--app", "tests.support.kit_app:app", "--task-queue", client.task_queue)
        for option in (["--open"], ["--since", "1h"]):
            while "1 run, " not in (await _said(project, "replay", "check", *option, *chosen)):
                await asyncio.sleep(0.2)  # until the server's list has it
        assert "Only the latest 1 runs" in await _said(project, "replay", "check", "--limit", "1", *chosen)
        file = str(tmp_path / "cassette.json")
        assert "Wrote" in await _said(project, "replay", "export", run.workflow_id, "-f", file)
        await client.cancel(run.workflow_id)
    assert "All replay: 1 run" in await _said(project, "replay", "check", file, *chosen[:2])
    assert Cassette.load(file).root.request is not None


async def _said(project: CliProject, *args: str) -> str:
    """Run a command in a thread, which has no event loop yet, and return what it says on stderr."""
    return (await asyncio.to_thread(project.invoke, *args)).stderr
