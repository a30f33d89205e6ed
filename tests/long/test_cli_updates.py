"""Ctrl-C while a run is told something that no worker takes."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from perdure.connection import connect
from perdure.contracts.memory import MemoryState, memory_id
from perdure.contracts.names import MEMORY_WORKFLOW
from perdure.devserver import DevServer
from tests.support.cli_project import CliProject

QUEUE = "cli-updates"


@pytest.fixture
def project(server: DevServer, tmp_path: Path) -> Iterator[CliProject]:
    """A project without a worker."""
    made = CliProject(tmp_path, {"TEMPORAL_ADDRESS": server.address, "PERDURE_TASK_QUEUE": QUEUE})
    (tmp_path / "drop.yaml").write_text("drop: [a]\n")
    yield made
    made.kill_all()


async def test_interrupted_at_once(server: DevServer, project: CliProject) -> None:
    temporal = await connect(address=server.address)
    owner = memory_id(QUEUE, tenant="", user="ada")
    await temporal.start_workflow(MEMORY_WORKFLOW, MemoryState(), id=owner, task_queue=QUEUE)
    workflow_id = project.run("start", "calc", "-i", "x").stdout.strip()
    waiting = [
        project.start(*command.replace("ID", workflow_id).split())
        for command in (
            "send ID hello",
            "update ID rename x",
            "limit ID max_turns=3",
            "task retry ID a",
            "plan amend ID drop.yaml",
            "memory forget ada --all",
        )
    ]
    await asyncio.sleep(8)  # all of them wait for an answer by now
    began = time.monotonic()
    for each in waiting:
        assert each.process.poll() is None, each.stderr
        each.interrupt()
    assert [each.end() for each in waiting] == [(130, "")] * len(waiting)
    assert time.monotonic() - began < 4
    assert not any("Error" in each.stderr or "Traceback" in each.stderr for each in waiting)
