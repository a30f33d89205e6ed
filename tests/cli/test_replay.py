"""`perdure replay` and `perdure codec` without a server."""

import base64
import json
from pathlib import Path

import pytest

from tests.cli.conftest import Project

REPLAY = Path(__file__).parents[1] / "replay"
ORDER, TOOLS = REPLAY / "own" / "order.json", REPLAY / "histories" / "0.1.0" / "tools-0.json"


def test_a_history_that_replays(project: Project) -> None:
    result = project.run("replay", "check", str(TOOLS))
    assert result.exit_code == 0
    assert result.stdout == ""
    assert "All replay: 1 run, " in result.stderr


def test_a_history_that_does_not(project: Project) -> None:
    result = project.run("replay", "check", str(ORDER))
    assert result.exit_code == 1
    assert "event 1 WorkflowExecutionStarted" in result.stdout
    assert "The app has no workflow 'Order': it was renamed or removed. Did you mean 'OrderFlow'?" in result.stdout
    assert "1 run can't go on with this code, of 1 run" in result.stderr
    told = json.loads(project.run("replay", "check", str(ORDER), "-o", "json").stdout)
    assert (told["runs"], told["faults"][0]["workflow"], told["faults"][0]["event_id"]) == (1, "Order", 1)


@pytest.mark.parametrize(
    ("arguments", "code", "problem"),
    [
        (["check", "gone"], 2, "Can't read gone"),
        (["check", "."], 2, "There is no history in ."),
        (["check", ".", "--open"], 2, "Give DIR, or --open"),
        (["check", "--since", "soon"], 2, "--since 'soon'"),
    ],
)
def test_what_can_not_be(project: Project, arguments: list[str], code: int, problem: str) -> None:
    assert problem in project.fail("replay", *arguments, code=code)


def test_without_a_server(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEMPORAL_ADDRESS", "127.0.0.1:1")
    for arguments in (["check"], ["check", "--since", "7d"], ["export", "x"]):
        assert "127.0.0.1:1" in project.fail("replay", *arguments, code=3)


def encrypt(project: Project) -> None:
    with (project.folder / "pyproject.toml").open("a") as file:
        file.write('\n[tool.perdure.encryption]\nkey_env = "CLI_KEY"\nold_keys = { was = "CLI_WAS" }\n')


def test_a_codec_server_that_can_not_be(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "No encryption is configured" in project.fail("codec", "serve", code=4)
    encrypt(project)
    assert "CLI_KEY isn't set here" in project.fail("codec", "serve", code=4)
    monkeypatch.setenv("CLI_KEY", base64.b64encode(b"k" * 32).decode())
    assert "--token-env: NOPE isn't set" in project.fail("codec", "serve", "--token-env", "NOPE", code=4)
    for origin in ("*", "http://[x"):
        assert "--origin" in project.fail("codec", "serve", "--origin", origin, code=2)
    assert "--host" in project.fail("codec", "serve", "--host", "nowhere", code=2)
    assert "--token-env" in project.fail("codec", "serve", "--host", "0.0.0.0", "--port", "0", code=4)


def test_doctor_says_which_keys_are_here(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEMPORAL_ADDRESS", "127.0.0.1:1")
    encrypt(project)
    found = _keys(project)
    assert (found["key default"]["status"], found["key was"]["status"]) == ("problem", "warning")
    monkeypatch.setenv("CLI_KEY", key := base64.b64encode(b"k" * 32).decode())
    found = _keys(project)
    assert (found["key default"]["status"], found["key was"]["value"]) == ("ok", "CLI_WAS isn't set here")
    assert key not in str(found)


def _keys(project: Project) -> dict[str, dict[str, str]]:
    told = json.loads(project.run("doctor", "-o", "json").stdout)
    return {each["name"]: each for each in told if each["section"] == "Encryption"}


def test_a_worker_without_the_key_does_not_start(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEMPORAL_ADDRESS", "127.0.0.1:1")
    encrypt(project)
    assert "CLI_KEY isn't set here" in project.fail("worker", code=4)
