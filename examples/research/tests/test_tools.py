"""How a project tests its tools: they are still plain functions."""

from pathlib import Path

import httpx
import pytest
from research.app import app
from research.tools import list_files, read_file, search_text

from perdure import ToolContext, ToolRetry
from perdure.contracts.messages import BlobRef


def put_blob(data: bytes) -> BlobRef:
    """Refuse: the tools store nothing."""
    raise AssertionError(data)


@pytest.fixture
def context(tmp_path: Path) -> ToolContext:
    """Return the context of a run whose root holds one note."""
    (tmp_path / "note.md").write_text("# Logs\n\nLogs are kept for thirty days.\n")
    return ToolContext(
        idempotency_key="key",
        workflow_id="test",
        tool="test",
        context={"root": str(tmp_path)},
        http=httpx.AsyncClient(),
        heartbeat=lambda: None,
        put_blob=put_blob,
    )


def test_a_note_is_listed_found_and_read(context: ToolContext) -> None:
    assert list_files(context).startswith("note.md (")
    assert search_text(context, "thirty DAYS") == "note.md:3: Logs are kept for thirty days."
    assert read_file(context, "note.md", start_line=3) == "3: Logs are kept for thirty days."


def test_the_model_is_told_of_a_path_that_is_refused(context: ToolContext) -> None:
    with pytest.raises(ToolRetry, match="relative to the root"):
        read_file(context, "../note.md")


def test_the_app_has_its_agents() -> None:
    assert sorted(app.agents) == ["fact_finder", "researcher", "writer"]
