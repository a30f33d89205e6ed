"""Each example is a project of its own, whose tests pass by themselves."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
PROJECTS = sorted(path.parent.name for path in EXAMPLES.glob("*/pyproject.toml"))


def test_there_are_examples() -> None:
    assert {"nightly_report", "own_workflow", "research", "support_chat"} <= set(PROJECTS)


@pytest.mark.parametrize("name", PROJECTS)
def test_a_projects_own_tests_pass(name: str) -> None:
    environ = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"]
    ended = subprocess.run(
        command, cwd=EXAMPLES / name, env=environ, capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert " passed" in ended.stdout
