"""What the guide and its like have their readers type works, in a project that has what these pages name."""

import re
from collections.abc import Iterator

import pytest

from tests.support.docs_lines import HOW_TO
from tests.support.docs_pages import REPOSITORY, Line
from tests.support.docs_reader import Reader

_PROJECT = """
[tool.perdure]
app = "app:app"

[tool.perdure.mcp.files]
command = "npx"
"""
_APP = """
import flows
import others
from tests.support.docs_cast import app_of

app = app_of(flows, others)
"""
_CLEAN_UP = """
@workflow.defn
class CleanUp:
    @workflow.run
    async def run(self) -> None:
        pass
"""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    """A project with what the how-to pages define, and `perdure dev` at work."""
    folder = tmp_path_factory.mktemp("how-to")
    blocks = [
        block
        for page in ("docs/guide.md", "docs/steering.md")
        for block in re.findall(r"^```python\n(.*?)^```$", (REPOSITORY / page).read_text(), re.M | re.S)
    ]
    flows = [block for block in blocks if "@workflow.defn" in block]
    (folder / "flows.py").write_text("\n".join([*flows, _CLEAN_UP]))
    (folder / "others.py").write_text("\n".join(block for block in blocks if block not in flows))
    (folder / "app.py").write_text(_APP)
    (folder / "pyproject.toml").write_text(_PROJECT)
    tides = re.search(r"^```yaml\n(title: Tides.*?)^```$", (REPOSITORY / "docs/guide.md").read_text(), re.M | re.S)
    assert tides
    (folder / "tides.yaml").write_text(tides[1])
    made = Reader(folder)
    try:
        made.type(Line("perdure dev"))
        yield made
    finally:
        made.leave()


@pytest.fixture
def reader(served: Reader) -> Iterator[Reader]:
    """Begins anew in that project, with no variable of another page."""
    made = Reader(served.home, served.port)
    yield made
    made.leave()


@pytest.mark.parametrize("page", HOW_TO)
def test_in_a_project(page: str, reader: Reader) -> None:
    reader.follow(page)
