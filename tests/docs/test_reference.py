"""The reference is what the code says, and the tutorial's project works."""

import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from docs.reference import FOLDER, pages  # pyright: ignore[reportMissingImports]
from docs.site import repository_path, site_path  # pyright: ignore[reportMissingImports]
from perdure.testing import AgentRun

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(("name", "text"), pages().items(), ids=[*pages()])
def test_the_reference_is_up_to_date(name: str, text: str) -> None:
    assert (FOLDER / name).read_text() == text, "run `make reference`"


def test_the_reference_tells_all() -> None:
    assert "### perdure schedule create\n" in pages()["cli.md"]
    assert "## `grace_period_seconds`\n\n`PERDURE_GRACE_PERIOD_SECONDS` · type `" in pages()["settings.md"]
    assert "## LimitExceeded\n\nA `RunError`; not retryable" in pages()["errors.md"]
    assert "### RunInput\n" in pages()["contracts.md"]


def test_every_page_is_in_the_navigation() -> None:
    text = (ROOT / "mkdocs.yml").read_text()
    listed = set(re.findall(r": (\S+\.md)$", text, re.M))
    written = {str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs").rglob("*.md")}
    examples = {str(path.relative_to(ROOT)) for path in (ROOT / "examples").glob("*/README.md")}
    assert {page for page in written if not page.startswith("adr/")} <= listed
    assert {site_path(path) for path in examples} <= listed


@pytest.mark.parametrize("path", ["README.md", "docs/guide.md", "examples/research/README.md", "docs/adr"])
def test_pages_of_the_site_are_files_of_the_repository(path: str) -> None:
    found = site_path(path)
    assert found is None if path == "docs/adr" else repository_path(found or "") == path


def test_the_tutorials_project_works(agent_test: Callable[..., AgentRun], monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = re.findall(r"^```python[^\n]*\n(.*?)^```", (ROOT / "docs" / "tutorial.md").read_text(), re.M | re.S)
    app = ModuleType("app")
    exec(blocks[0], vars(app))
    monkeypatch.setitem(sys.modules, "app", app)
    test = ModuleType("test_app")
    exec(blocks[1], vars(test))
    vars(test)["test_a_wrong_day_is_put_right"](agent_test)
    run = agent_test(vars(app)["app"], "pilot", "When is high water on Monday?")
    assert "15:25" in str(run.output)
