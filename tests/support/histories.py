"""The stored histories, read as a timeline: no server is needed."""

from pathlib import Path

from temporalio.api.history.v1 import History
from temporalio.client import WorkflowHistory
from temporalio.contrib.pydantic import pydantic_data_converter

from perdure.client._timeline.data import Timeline
from perdure.client._timeline.read import make_timeline
from perdure.client._timeline.reader import TimelineReader

FOLDER = Path(__file__).parents[1] / "replay" / "histories" / "0.1.0"
NAMES = sorted(path.stem for path in FOLDER.glob("*.json"))


def load(name: str) -> WorkflowHistory:
    """Return a stored history."""
    return WorkflowHistory.from_json(name, (FOLDER / f"{name}.json").read_text())


async def read(history: WorkflowHistory | History, *, run_id: str = "run") -> TimelineReader:
    """Read the events of one run."""
    reader = TimelineReader(pydantic_data_converter, run_id=run_id)
    for event in history.events:
        await reader.read(event)
    return reader


async def stored(*names: str) -> Timeline:
    """Return the timeline of a chain of stored runs."""
    return make_timeline("w", [await read(load(name), run_id=name) for name in names])
