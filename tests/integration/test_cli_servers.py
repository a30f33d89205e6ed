"""`perdure dev`, and `perdure run` where there is no server: what they bring up, and how they leave."""

import os
import signal
import subprocess
from pathlib import Path

import pytest

from perdure._local_server import free_port, is_free
from tests.support.cli_project import CliProject, wait_until


@pytest.fixture
def project(tmp_path: Path) -> CliProject:
    """A project whose embedded server has a port of its own, and where Temporal is not configured."""
    return CliProject(tmp_path, {"PERDURE_DEV_PORT": str(free_port()), "PERDURE_DEV_UI_PORT": "0"})


def test_run_brings_up_a_server_and_a_worker(project: CliProject) -> None:
    ended = project.run("run", "calc", "-i", "1 + 2", "--id", "first")
    assert ended.stdout == "The answer to '1 + 2' is 3.\n"
    assert "No Temporal answered" in ended.stderr
    assert "No worker polls" in ended.stderr
    assert is_free(int(project.environ["PERDURE_DEV_PORT"]))
    assert "Can't reach Temporal" in project.run("show", "first", code=3).stderr


def test_interrupted_run_goes_on_under_dev(project: CliProject) -> None:
    running = project.start("run", "calc", "-i", "nap 4", "--id", "long")
    running.wait_for("nap(seconds=4.0)")
    running.interrupt()
    code, stdout = running.end()
    assert (code, stdout) == (130, "")
    assert "The run long stays open" in running.stderr
    assert "`perdure dev` and then `perdure watch long`" in running.stderr
    assert "Traceback" not in running.stderr

    dev = project.start("dev")
    try:
        dev.wait_for("serves the Task Queue")
        assert project.out("result", "long") == "The answer to 'nap 4' is 3.\n"
    finally:
        assert dev.stop()[0] == 0


def test_dev_restarts_the_worker_when_the_source_changes(project: CliProject) -> None:
    dev = project.start("dev", "--port", "0")
    app = project.folder / "app.py"
    source = app.read_text()
    try:
        dev.wait_for("serves the Task Queue")
        assert "agents: calc" in dev.stderr
        app.write_text(source + "x = (\n")
        dev.wait_for("Waits for the next change.")
        assert "SyntaxError: '(' was never closed" in dev.stderr
        app.write_text(source.replace('Agent("calc"', 'Agent("adder"'))
        dev.wait_for("agents: adder")
        # The commands find the server on its port, by the record in .perdure.
        assert project.run("run", "adder", "-i", "1").stdout == "The answer to '1' is 3.\n"
    finally:
        dev.interrupt()
        assert dev.end()[0] == 0
    assert dev.stderr.splitlines()[-1] == "Stops the server."
    assert "Traceback" not in dev.stderr


def test_dev_replaces_a_worker_that_dies(project: CliProject) -> None:
    dev = project.start("dev", "--no-reload")
    try:
        first = dev.wait_for("serves the Task Queue")
        os.kill(_worker_pid(first), signal.SIGKILL)
        dev.wait_for("serves the Task Queue", count=2)
        assert "starts another" in dev.stderr
    finally:
        assert dev.stop()[0] == 0


def test_dev_that_cannot_import_the_app_ends_without_reload(project: CliProject) -> None:
    (project.folder / "app.py").write_text("1 / 0\n")
    dev = project.start("dev", "--no-reload")
    assert dev.end()[0] == 4
    assert "ZeroDivisionError" in dev.stderr


def test_a_worker_ends_with_a_killed_dev(project: CliProject) -> None:
    dev = project.start("dev", "--no-reload")
    worker = _worker_pid(dev.wait_for("serves the Task Queue"))
    dev.process.kill()
    dev.end()
    wait_until(lambda: not _is_alive(worker))


def _worker_pid(stderr: str) -> int:
    line = next(line for line in stderr.splitlines() if "serves the Task Queue" in line)
    return int(line.split()[1])


def _is_alive(pid: int) -> bool:
    state = subprocess.run(
        ["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False
    ).stdout
    return bool(state.strip()) and not state.startswith("Z")
