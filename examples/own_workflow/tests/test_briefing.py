"""How a project tests its own workflow: on Temporal's test server, which skips the time that nobody works in."""

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from desk.app import app
from desk.briefing import Briefing, BriefingWorkflow, Order
from temporalio.client import Client, WorkflowHandle
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Worker

from perdure.plugin import PerdurePlugin

QUEUE = "desk"
ORDER = Order(title="Monday", questions=["How high is a spring tide?", "When does the harbour open?"])


@pytest.fixture
async def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Client]:
    """Return a client of a server with a worker."""
    monkeypatch.setenv("DESK_OUT", str(tmp_path))
    binary = str(Path(sys.executable).with_name("temporal-test-server"))
    environment = await WorkflowEnvironment.start_time_skipping(
        test_server_existing_path=binary, plugins=[PerdurePlugin(app)]
    )
    async with environment, Worker(environment.client, task_queue=QUEUE):
        yield environment.client


async def start(client: Client, order: Order) -> WorkflowHandle[BriefingWorkflow, Briefing]:
    """Start a briefing."""
    return await client.start_workflow(BriefingWorkflow.run, order, id="monday", task_queue=QUEUE)


def published(folder: Path) -> list[str]:
    """Return the texts that were published."""
    return [path.read_text() for path in folder.iterdir()]


async def test_the_editor_asks_on_and_approves(client: Client, tmp_path: Path) -> None:
    briefing = await start(client, ORDER)
    await briefing.signal(BriefingWorkflow.ask, "Who owns the crane?")
    while "crane" not in await briefing.query(BriefingWorkflow.draft):
        await asyncio.sleep(0.05)
    await briefing.signal(BriefingWorkflow.approve)
    ended = await briefing.result()
    assert ended.is_published
    assert [line for line in ended.text.splitlines() if line.startswith("## ")] == [
        "## How high is a spring tide?",
        "## When does the harbour open?",
        "## Who owns the crane?",
    ]
    assert "four and a half metres" in ended.text
    assert "It lifts twelve tonnes. [source: harbour.md:5]" in ended.text
    assert published(tmp_path) == [f"# Monday\n\n{ended.text}\n"]


async def test_a_draft_that_nobody_looks_at_is_put_away(
    client: Client, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Three days go by in a moment."""
    ended = await (await start(client, ORDER.model_copy(update={"reminders": 2}))).result()
    assert not ended.is_published
    assert "six in the morning" in ended.text
    assert published(tmp_path) == []
    said = capsys.readouterr().out.splitlines()
    assert said == [f"Reminder {number}: the briefing 'Monday' waits for you." for number in (1, 2)]
