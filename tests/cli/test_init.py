"""`perdure init`, `examples`, `completion`: what they write, and that a new project's own `make test` passes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from perdure.cli import cli

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*args: str) -> Result:
    return CliRunner().invoke(cli, args)


def refused(*args: str) -> str:
    result = run(*args)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1, result.stderr
    return result.stderr


def test_the_project_says_where_perdure_is_from(folder: Path) -> None:
    (folder / "Harbour").mkdir()
    run("init", "Harbour")
    assert f"PERDURE_SOURCE ?= {ROOT.as_uri()}\n" in (folder / "Harbour" / "Makefile").read_text()
    assert 'name = "harbour"' in (folder / "Harbour" / "pyproject.toml").read_text()
    texts = [path.read_text() for path in (folder / "Harbour").rglob("*") if path.is_file()]
    assert not [text for text in texts if "{{" in text]


def test_what_to_do_next_can_be_done_as_it_is_written(folder: Path) -> None:
    told = run("init", "harbour").stderr
    readme = (folder / "harbour" / "README.md").read_text()
    assert '`perdure run assistant -i "When does the harbour open?"`' in told
    assert '$ perdure run assistant -i "When does the harbour open?"' in readme


def test_git_and_docker_leave_out_what_is_made(folder: Path) -> None:
    run("init", "harbour")
    assert ".venv/" in (folder / "harbour" / ".gitignore").read_text().splitlines()
    assert ".perdure" in (folder / "harbour" / ".dockerignore").read_text().splitlines()


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("1x", "start with a letter"),
        ("", "start with a letter"),
        ("a b", "start with a letter"),
        ("../up", "`cd` there first"),
        ("perdure", "reserved"),
        ("x" * 65, "up to 63 letters"),
    ],
)
def test_a_name_that_cant_be_used(folder: Path, name: str, reason: str) -> None:
    assert reason in refused("init", name)
    assert not list(folder.iterdir())


def test_nothing_is_overwritten(folder: Path) -> None:
    (folder / "mine").mkdir()
    (folder / "mine" / "app.py").write_text("mine")
    (folder / "file").touch()
    for args in (("init", "mine"), ("init", "file"), ("examples", "copy", "research", "--to", "mine")):
        assert "isn't an empty folder" in refused(*args)
    assert [path.name for path in (folder / "mine").iterdir()] == ["app.py"]
    assert (folder / "mine" / "app.py").read_text() == "mine"


def test_a_folder_that_cant_be_made(folder: Path) -> None:
    (folder / "file").touch()
    assert "Can't write 'file/x': Not a directory." in refused("examples", "copy", "research", "--to", "file/x")


def test_examples_are_listed_and_copied(folder: Path) -> None:
    listed = run("examples")
    assert listed.stdout == run("examples", "list").stdout
    for path in (ROOT / "examples").glob("*/pyproject.toml"):
        assert path.parent.name in listed.stdout
    assert run("examples", "copy", "own_workflow").stdout == "own_workflow\n"
    assert (folder / "own_workflow" / "desk" / "briefing.py").is_file()
    assert not list((folder / "own_workflow").rglob("__pycache__"))
    assert '"name": "own_workflow"' in run("examples", "list", "-o", "json").stdout


def test_an_example_that_isnt_there() -> None:
    assert "Did you mean 'research'?" in refused("examples", "copy", "reserch")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_a_script(shell: str) -> None:
    result = run("completion", shell)
    assert result.exit_code == 0
    assert "_PERDURE_COMPLETE" in result.stdout


def test_completion_takes_the_shell_that_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHELL", "/usr/bin/fish")
    assert run("completion").stdout == run("completion", "fish").stdout
    monkeypatch.setenv("SHELL", "/bin/tcsh")
    assert "name one of bash, zsh, fish" in refused("completion")


@pytest.mark.parametrize(
    ("words", "expected"),
    [("perdure sc", {"schedule", "score", "scoreboard"}), ("perdure start --in", {"--input"})],
)
def test_a_shell_is_told_what_can_follow(words: str, expected: set[str]) -> None:
    asked = {"_PERDURE_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(len(words.split()) - 1)}
    command = [str(Path(sys.executable).with_name("perdure"))]
    told = subprocess.check_output(command, env={**os.environ, **asked}, text=True).split()
    assert {line.removeprefix("plain,") for line in told} == expected


def test_bash_runs_the_script() -> None:
    script = run("completion", "bash").stdout
    checked = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr
