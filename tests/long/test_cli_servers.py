"""`perdure dev`, and `perdure run` where there is no server: what they bring up, and how they leave."""

import os
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from perdure._local_server import free_port, is_free
from tests.support.cli_project import CliProject, wait_until


@pytest.fixture
def project(tmp_path: Path) -> Iterator[CliProject]:
    """A project whose embedded server has a port of its own, and where Temporal is not configured."""
    made = CliProject(tmp_path, {"PERDURE_DEV_PORT": str(free_port()), "PERDURE_DEV_UI_PORT": "0"})
    yield made
    made.kill_all()


def test_run_brings_up_a_server_and_a_worker(project: CliProject) -> None:
    ended = project.run("run", "calc", "-i", "1 + 2", "--id", "first")
    assert ended.stdout == "The answer to '1 + 2' is 3.\n"
    assert "No Temporal answered" in ended.stderr
    assert "No worker polls" in ended.stderr
    assert is_free(int(project.environ["PERDURE_DEV_PORT"]))
    assert "Can't reach Temporal" in project.invoke("show", "first", code=3).stderr


def test_run_brings_up_no_server_where_another_is_meant(project: CliProject) -> None:
    """A namespace, a key or TLS is that of some server, though its address isn't set."""
    project.environ["TEMPORAL_NAMESPACE"] = "staging"
    ended = project.run("run", "calc", "-i", "1 + 2", code=3)
    assert "Can't reach Temporal" in ended.stderr
    assert not (project.folder / ".perdure").exists()


def test_run_leaves_a_port_alone_where_something_else_listens(project: CliProject) -> None:
    with socket.create_server(("127.0.0.1", int(project.environ["PERDURE_DEV_PORT"]))) as taken:
        threading.Thread(target=_hang_up, args=(taken,), daemon=True).start()
        ended = project.run("run", "calc", "-i", "1 + 2", code=3)
        taken.shutdown(socket.SHUT_RDWR)  # wakes the thread
    assert "Can't reach Temporal at 127.0.0.1:" in ended.stderr
    assert "runs one" not in ended.stderr


def _hang_up(taken: socket.socket) -> None:
    with suppress(OSError):
        while True:
            taken.accept()[0].close()


def test_the_demo_is_the_same_whatever_is_configured(project: CliProject) -> None:
    more = {"TEMPORAL_NAMESPACE": "staging", "TEMPORAL_TLS": "true", "PERDURE_SERVE": "models"}
    project.environ.update(more)
    ended = project.run("demo")
    assert "worker killed, in the middle of the model call" in ended.stdout
    assert "finished" in ended.stdout.splitlines()[-2]


def test_interrupted_run_goes_on_under_dev(project: CliProject) -> None:
    running = project.start("run", "calc", "-i", "nap 2", "--id", "long")
    running.wait_for("nap(seconds=2.0)")
    running.interrupt()
    code, stdout = running.end()
    assert (code, stdout) == (130, "")
    assert "The run long stays open" in running.stderr
    assert "`perdure dev` and then `perdure watch long`" in running.stderr
    assert "Traceback" not in running.stderr

    dev = project.start("dev")
    try:
        dev.wait_for("serves the Task Queue")
        assert project.out("result", "long") == "The answer to 'nap 2' is 3.\n"
    finally:
        assert dev.stop()[0] == 0


def test_dev_restarts_the_worker_when_the_source_changes(project: CliProject) -> None:
    dev = project.start("dev", "--port", "0")
    app = project.app_file
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
        workflow_id = project.out("start", "adder", "-i", "1").strip()
        assert project.out("result", workflow_id) == "The answer to '1' is 3.\n"
    finally:
        dev.interrupt()
        assert dev.end()[0] == 0
    assert dev.stderr.splitlines()[-1] == "Stops the server."
    assert "Traceback" not in dev.stderr


def test_dev_replaces_a_worker_that_dies_and_takes_it_along(project: CliProject) -> None:
    dev = project.start("dev", "--no-reload")
    os.kill(_worker_pid(dev.wait_for("serves the Task Queue")), signal.SIGKILL)
    worker = _worker_pid(dev.wait_for("serves the Task Queue", count=2))
    assert "starts another" in dev.stderr
    dev.process.kill()
    dev.end()
    wait_until(lambda: not _is_alive(worker))


def test_dev_that_cannot_import_the_app_ends_without_reload(project: CliProject) -> None:
    project.app_file.write_text("1 / 0\n")
    dev = project.start("dev", "--no-reload")
    assert dev.end()[0] == 4
    assert "ZeroDivisionError" in dev.stderr


def _worker_pid(stderr: str) -> int:
    lines = [line for line in stderr.splitlines() if "serves the Task Queue" in line]
    return int(lines[-1].split()[1])


def _is_alive(pid: int) -> bool:
    state = subprocess.run(
        ["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False
    ).stdout
    return bool(state.strip()) and not state.startswith("Z")
