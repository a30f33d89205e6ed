"""Records what no stored history has: `pytest -p tests.replay.recording tests/long tests/integration`.

Tests make a run take every path that a patch stands for. With this plugin, the history of the smallest run with a
patch that no stored one has goes to the histories of this version.
"""

import asyncio
import json
import threading
from contextlib import suppress
from functools import cache
from typing import Any

import pytest
from temporalio.client import Client, WorkflowExecution, WorkflowHistory
from temporalio.service import RPCError

import perdure
from tests.replay.record import HISTORIES, without_traces
from tests.replay.test_replay import REPLAYED, patches_of

_FOLDER = HISTORIES / perdure.__version__
_SECONDS = 60
_MOST_BYTES = 200_000
_seen: set[str] = set()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> None:
    """Look at what has ended on the server of a test."""
    arguments: dict[str, Any] = getattr(item, "funcargs", {})
    client = next((each for each in arguments.values() if isinstance(each, Client)), None)
    if client is not None:
        address = client.service_client.config.target_host
        looking = threading.Thread(target=lambda: asyncio.run(asyncio.wait_for(_look(address), _SECONDS)))
        looking.start()  # the test's own event loop is at rest
        looking.join()


async def _look(address: str) -> None:
    client = await Client.connect(address)
    async for run in client.list_workflows("CloseTime is not null"):
        if run.run_id not in _seen and run.workflow_type in {each.__name__ for each in REPLAYED}:
            _seen.add(run.run_id)
            with suppress(RPCError):
                _keep(run, await _history(client, run))


async def _history(client: Client, run: WorkflowExecution) -> WorkflowHistory:
    return await client.get_workflow_handle(run.id, run_id=run.run_id).fetch_history()


def _keep(run: WorkflowExecution, history: WorkflowHistory) -> None:
    made = without_traces(json.loads(history.to_json()))
    told = json.dumps(made, indent=2)
    for patch in patches_of(made) - _known():
        place = _FOLDER / f"patch-{patch.removeprefix('perdure.')}-{run.workflow_type}.json"
        if len(told) < (place.stat().st_size if place.exists() else _MOST_BYTES):
            place.write_text(told)


@cache
def _known() -> set[str]:
    """Return the patches of the histories that were not recorded for a patch's sake."""
    others = [path for path in _FOLDER.glob("*.json") if not path.stem.startswith("patch-")]
    return {patch for path in others for patch in patches_of(json.loads(path.read_text()))}
