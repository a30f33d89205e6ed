"""`perdure chat`: a session from one terminal and another, through pipes; it closes when nobody writes."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Worker

from perdure import Agent, App
from perdure.client import PerdureClient
from perdure.contracts.messages import Message
from perdure.contracts.run import RunStatus
from perdure.contracts.steering import Session
from perdure.devserver import DevServer
from perdure.errors import RunCancelled
from perdure.plugin import PerdurePlugin
from perdure.testing import ScriptedModel
from tests.support.cli_project import CliProject
from tests.support.pause_workflows import SlowToLeave

QUEUE = "cli-chat"
APP = """
from perdure import Agent, App, Compaction
from perdure.testing import ScriptedModel


def script(request, messages):
    return f"You said {messages[-1].text!r}, and {sum(m.role == 'user' for m in messages)} things in all."


def count(request, messages):
    return f"{len(messages[-1].text)} characters"


def the_last(messages, tokens):
    return messages[-1:]


short = Compaction(by=the_last, context_window_tokens=1000)
app = App(
    agents=[Agent("parrot", model="scripted:x"), Agent("forgetful", model="counting:x", compaction=short)],
    providers=[ScriptedModel(script), ScriptedModel(count, name="counting")],
)
"""


@pytest.fixture(scope="module")
def project(server: DevServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[CliProject]:
    """A project with a worker."""
    folder = tmp_path_factory.mktemp("chat")
    made = CliProject(folder, {"TEMPORAL_ADDRESS": server.address, "PERDURE_TASK_QUEUE": QUEUE})
    made.app_file.write_text(APP)
    process = made.start("worker")
    process.wait_for("serves the Task Queue")
    yield made
    process.stop()
    made.kill_all()


def test_a_session_through_pipes(project: CliProject) -> None:
    first = project.run("chat", "parrot", "--id", "talk", input="hello\n\nwhat now?\n/quit\n")
    assert first.stdout.splitlines() == [
        "You said 'hello', and 1 things in all.",
        "You said 'what now?', and 2 things in all.",
    ]
    assert "`perdure chat --attach talk` comes back to it." in first.stderr
    again = project.run("chat", "--attach", "talk", "-o", "jsonl", input="again\n")
    entries = [json.loads(line) for line in again.stdout.splitlines()]
    assert [each["slot"] for each in entries] == list(range(6))
    assert entries[-1]["message"]["parts"][0]["text"] == "You said 'again', and 3 things in all."
    assert json.loads(project.out("show", "talk", "-o", "json"))["info"]["state"] == "idle"
    project.out("cancel", "talk")


def test_a_session_that_made_room_goes_on_where_it_was(project: CliProject) -> None:
    """Slots begin anew then: each answer is printed once, also to who comes back before it, or after."""
    first = project.run("chat", "forgetful", "--id", "short", input="a\nbb\nccc\ndddd\n")
    assert first.stdout.splitlines() == [f"{number} characters" for number in (1, 2, 3, 4)]
    long = "x" * 4000
    again = project.run("chat", "--attach", "short", input=f"{long}\nfive!\n").stdout.splitlines()
    assert again[-3:] == ["4 characters", "4000 characters", "5 characters"]
    entries = json.loads(project.out("transcript", "short", "-o", "json"))
    assert entries[-1]["epoch"] >= 1, "it never made room"
    assert len(entries) < 8, "the slots of before are taken again"
    shown = [each["message"]["parts"][0]["text"] for each in entries if each["message"]["role"] == "assistant"]
    last = project.run("chat", "--attach", "short", input="sixsix\n").stdout.splitlines()
    assert last == [*shown[-3:], "6 characters"]
    project.out("cancel", "short")


def _parrot(request: Any, messages: list[Message]) -> str:
    return f"said: {messages[-1].text}"


@pytest.fixture(scope="module")
async def skipping() -> AsyncIterator[WorkflowEnvironment]:
    """A server on which time passes when nothing else happens."""
    app = App(
        agents=[Agent("parrot", model="scripted:x")], workflows=[SlowToLeave], providers=[ScriptedModel(_parrot)]
    )
    binary = str(Path(sys.executable).with_name("temporal-test-server"))
    environment = await WorkflowEnvironment.start_time_skipping(
        test_server_existing_path=binary, plugins=[PerdurePlugin(app)]
    )
    async with environment, Worker(environment.client, task_queue=QUEUE):
        yield environment


async def _until_idle(client: PerdureClient, id: str, *, read: int) -> None:
    async with asyncio.timeout(30):
        while True:
            status = RunStatus.model_validate(await client.query(id, "perdure.status"))
            if status.state == "idle" and status.received == read:
                return
            await asyncio.sleep(0.05)


async def test_an_idle_session_closes_with_its_last_answer(skipping: WorkflowEnvironment) -> None:
    client = PerdureClient(skipping.client, task_queue=QUEUE)
    session = Session(idle_timeout=timedelta(days=3))
    id = (await client.start_agent("parrot", "one", session=session)).workflow_id
    await _until_idle(client, id, read=0)
    began = await skipping.get_current_time()
    await skipping.sleep(timedelta(days=2))
    await client.send(id, "two")
    await _until_idle(client, id, read=1)
    await skipping.sleep(timedelta(days=2))
    await _until_idle(client, id, read=1)
    await skipping.sleep(timedelta(days=1, minutes=1))
    result = await client.result(id)
    assert result.output == "said: two"
    assert result.counters.turns == 2
    assert timedelta(days=5) <= await skipping.get_current_time() - began < timedelta(days=6)
    history = await skipping.client.get_workflow_handle(id).fetch_history()
    names = [event.WhichOneof("attributes") or "" for event in history.events]
    assert sum(name.startswith("activity_task_scheduled") for name in names) == 2, "waiting costs nothing"


async def test_clean_up_has_a_deadline(skipping: WorkflowEnvironment) -> None:
    client = PerdureClient(skipping.client, task_queue=QUEUE)
    id = (await client.start_workflow("SlowToLeave", [])).workflow_id
    await skipping.sleep(timedelta(seconds=10))
    began = await skipping.get_current_time()
    await client.cancel(id)
    await skipping.sleep(timedelta(minutes=6))
    with pytest.raises(RunCancelled):
        await client.result(id)
    assert await skipping.get_current_time() - began < timedelta(hours=1)
