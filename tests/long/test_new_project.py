"""A new project's own `make test` passes, with perdure as a wheel in a venv of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from perdure._scaffold import list_examples
from perdure.cli import cli

ROOT = Path(__file__).parents[2]


@pytest.mark.fresh
def test_a_new_project_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In an empty folder, with nothing but python3 and make: all of the way in, with a venv of its own."""
    monkeypatch.chdir(tmp_path)
    assert CliRunner().invoke(cli, ["init", "harbour"]).stdout == "harbour\n"
    folder = tmp_path
    environ = {key: value for key, value in os.environ.items() if not key.startswith(("PYTEST_", "VIRTUAL_ENV"))}
    environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environ['PATH']}"  # uv, for its cache
    ended = subprocess.run(
        ["make", "test", f"PERDURE_SOURCE={ROOT}"],
        cwd=folder / "harbour",
        env=environ,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "3 passed" in ended.stdout
    code = "import perdure, pathlib; print(pathlib.Path(perdure.__file__).is_relative_to(pathlib.Path.cwd()))"
    python = folder / "harbour" / ".venv" / "bin" / "python"
    assert subprocess.check_output([python, "-c", code], cwd=folder / "harbour", text=True) == "True\n"
    assert_has_examples(python)


def assert_has_examples(python: Path) -> None:
    """The wheel that was built has what the repository has."""
    code = "from perdure._scaffold import list_examples; print(*(each.name for each in list_examples()))"
    names = subprocess.check_output([python, "-c", code], text=True).split()
    assert names == [each.name for each in list_examples()]
