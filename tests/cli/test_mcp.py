"""`perdure mcp`: servers opened here, their tools, and accepting them."""

import json
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Project

HOSTILE = Path(__file__).parents[1] / "support" / "mcp_hostile.py"


@pytest.fixture
def servers(project: Project) -> Project:
    with (project.folder / "pyproject.toml").open("a") as file:
        command, script = json.dumps(sys.executable), json.dumps(str(HOSTILE))
        file.write(f'[tool.perdure.mcp.good]\ncommand = {command}\nargs = [{script}, "fine"]\n')
    return project


def test_there_is_none(project: Project) -> None:
    result = project.run("mcp", "list")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "[tool.perdure.mcp.NAME]" in result.stderr


def test_tools_are_accepted_as_they_are(servers: Project) -> None:
    assert "0 of 1" in servers.run("mcp", "list").output
    assert "needs approval" in servers.run("mcp", "tools", "good").output
    assert "new" in servers.run("mcp", "accept", "good").output
    assert "as before" in servers.run("mcp", "accept", "good", "--tool", "fine").output
    [tool] = json.loads(servers.run("mcp", "tools", "good", "-o", "json").stdout)
    assert (tool["name"], tool["is_accepted"], tool["description"]) == ("good__fine", True, "Do it.")
    lock = servers.folder / "mcp.lock"
    assert json.loads(lock.read_text()) == {"good": {"fine": tool["digest"]}}
    lock.write_text(json.dumps({"good": {"fine": "0" * 64}}))
    assert "0 of 1" in servers.run("mcp", "list").output
    assert "CHANGED" in servers.run("mcp", "accept", "good").output


def test_one_that_cannot_be_opened(servers: Project) -> None:
    with (servers.folder / "pyproject.toml").open("a") as file:
        file.write('[tool.perdure.mcp.bad]\ncommand = "no-such-program"\n')
    result = servers.run("mcp", "list")
    assert result.exit_code == 3
    assert "good" in result.stdout
    assert "no-such-program can't be started" in servers.fail("mcp", "tools", "bad", code=3)


def test_bad_input(servers: Project) -> None:
    assert "Did you mean 'good'?" in servers.fail("mcp", "tools", "goood", code=2)
    assert "has no tool 'fin'" in servers.fail("mcp", "accept", "good", "--tool", "fin", code=2)
    (servers.folder / "mcp.lock").write_text("[]")
    assert "is no list of accepted tools" in servers.fail("mcp", "list", code=4)
    with (servers.folder / "pyproject.toml").open("a") as file:
        file.write('[tool.perdure.mcp.bad]\ncomand = "x"\n')
    assert "Did you mean 'command'?" in servers.fail("mcp", "list", code=4)
