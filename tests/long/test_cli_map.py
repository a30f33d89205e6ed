"""`perdure map` against a real server."""

import json
from collections.abc import Iterator

import pytest

from perdure.devserver import DevServer
from tests.support.cli_project import CliProject, wait_until


@pytest.fixture(scope="module")
def project(server: DevServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[CliProject]:
    environ = {"TEMPORAL_ADDRESS": server.address, "PERDURE_TASK_QUEUE": "cli-map"}
    made = CliProject(tmp_path_factory.mktemp("cli-map"), environ)
    worker = made.start("worker")
    worker.wait_for("serves the Task Queue")
    yield made
    worker.stop()
    made.kill_all()


def test_lines_of_a_file(project: CliProject) -> None:
    (project.folder / "items.txt").write_text("one\ntwo\n\nthree\n")
    ended = project.run("map", "calc", "--items", "@items.txt", "--max-parallel", "2")
    assert ended.stdout.splitlines() == [f"The answer to {text!r} is 3." for text in ("one", "two", "three")]
    assert "Started calc-map-" in ended.stderr
    assert "3 done · 0 failed" in ended.stderr


def test_a_json_array_and_failures_as_data(project: CliProject) -> None:
    ended = project.run(
        "map", "calc", "--items", "-", "--on-error", "collect", "-o", "jsonl", input='["a", "fail", {"b": 1}]'
    )
    first, failed, last = (json.loads(line) for line in ended.stdout.splitlines())
    assert first["output"] == "The answer to 'a' is 3."
    assert (failed["index"], failed["failure"]["type"]) == (1, "ModelUnavailable")
    assert last["output"] == "The answer to '{\"b\": 1}' is 3."


def test_a_failure_ends_it(project: CliProject) -> None:
    ended = project.run("map", "calc", "--items", "-", code=1, input="a\nfail")
    assert "ModelUnavailable: item 1: agent 'calc'" in ended.stderr
    assert ended.stdout == ""
    told = project.run("map", "calc", "--items", "-", "-o", "json", code=1, input="a\nfail").stdout
    assert json.loads(told)["error"]["type"] == "ModelUnavailable"


def test_ctrl_c_leaves_it_running(project: CliProject) -> None:
    (project.folder / "naps.txt").write_text("nap 3\nnap 3.5\n")
    running = project.start("map", "calc", "--items", "@naps.txt", "--id", "naps")
    running.wait_for("0 of 2 done · 2 running")
    running.interrupt()
    assert running.end()[0] == 130
    assert "The map naps goes on. `perdure result naps` waits for it" in running.stderr
    result = json.loads(project.out("result", "naps", "-o", "json"))
    assert [outcome["output"] for outcome in result["outcomes"]] == [
        "The answer to 'nap 3' is 3.",
        "The answer to 'nap 3.5' is 3.",
    ]
    wait_until(lambda: '"done": 2' in project.out("query", "naps", "perdure.map", "-o", "json"))


def test_what_cannot_be_mapped(project: CliProject) -> None:
    assert "There are no items" in project.invoke("map", "calc", "--items", "", code=2).stderr
    assert "There is no agent 'clac'" in project.invoke("map", "clac", "--items", "a", code=2).stderr
