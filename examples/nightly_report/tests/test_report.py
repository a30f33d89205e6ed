"""The report, started by a schedule on a real Temporal server: the embedded one."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from nightly.app import app, find_errors, list_logs
from nightly.report import Report
from temporalio.worker import Worker

from perdure import ToolRetry
from perdure.client import PerdureClient
from perdure.connection import connect
from perdure.devserver import DevServer
from perdure.plugin import PerdurePlugin

QUEUE = "nightly"


@pytest.fixture
async def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[PerdureClient]:
    """Return a client of a server with a worker."""
    monkeypatch.setenv("NIGHTLY_OUT", str(tmp_path / "out"))
    async with DevServer(tmp_path, port=0, ui_port=0, in_memory=True) as server:
        temporal = await connect(address=server.address, plugins=[PerdurePlugin(app)])
        async with Worker(temporal, task_queue=QUEUE):
            yield PerdureClient(temporal, task_queue=QUEUE, registry=app.registry)


async def test_a_schedule_starts_it(client: PerdureClient, tmp_path: Path) -> None:
    made = await client.schedules.create("nightly", workflow="NightlyReport", cron="0 3 * * *")
    assert made.next[0].hour == 3
    triggered = await client.schedules.trigger("nightly")
    handle = client.temporal.get_workflow_handle(triggered.workflow_id, result_type=Report)
    report = await handle.result()
    text = (tmp_path / "out" / f"{report.date}.md").read_text()
    assert text.startswith(f"# {report.date}\n")
    assert [line for line in text.splitlines() if line.startswith("## ")] == [
        "## crane.txt",
        "## gate.txt",
        "## lamps.txt",
    ]
    assert "brake of the crane overheated" in text
    assert "a branch was in its way" in text
    assert report.failed == []


def test_a_model_is_told_which_logs_there_are() -> None:
    assert find_errors("gate.txt").startswith("gate.txt:2: 14:20 ERROR")
    for log in ("door.txt", "../README.md"):
        with pytest.raises(ToolRetry, match=list_logs()):
            find_errors(log)
