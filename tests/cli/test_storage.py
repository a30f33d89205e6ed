"""`perdure storage` without a server."""

import json

import pytest

from perdure.cli._storage import print_collected
from perdure.storage.collecting import Collected
from tests.cli.conftest import Project


def configure(project: Project, *lines: str) -> None:
    with (project.folder / "pyproject.toml").open("a") as file:
        file.write("\n[tool.perdure.storage]\n" + "\n".join(lines) + "\n")


@pytest.mark.parametrize("command", ["status", "gc"])
def test_where_there_is_none(project: Project, command: str) -> None:
    assert "No external storage is configured" in project.fail("storage", command, code=4)


def test_the_status_of_a_folder(project: Project) -> None:
    configure(project, 'driver = "local"', 'path = "kept"', "threshold_bytes = 65536")
    folder = project.folder / "kept" / "default" / "ab"
    folder.mkdir(parents=True)
    (folder / ("ab" * 32)).write_bytes(b"x" * 2048)
    (folder / "tmp.part").write_bytes(b"x")
    lines = dict(line.split(None, 1) for line in project.run("storage", "status").stdout.splitlines())
    assert lines["place"] == str(project.folder / "kept")
    assert lines["holds"] == "1 payload, 2.0 kB"
    assert lines["leftovers"] == "1 file of writers that died"
    for output in ("json", "jsonl"):
        told = json.loads(project.run("storage", "status", "-o", output).stdout)
        assert (told["payloads"], told["size_bytes"], told["threshold_bytes"]) == (1, 2048, 65536)


def test_a_bucket(project: Project) -> None:
    configure(project, 'driver = "s3"', 'bucket = "mine"')
    told = json.loads(project.run("storage", "status", "-o", "json").stdout)
    assert (told["driver"], told["place"], told["payloads"]) == ("s3", "mine", None)


def test_what_can_not_be(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    configure(project, 'driver = "local"')
    monkeypatch.setenv("TEMPORAL_ADDRESS", "127.0.0.1:1")
    assert "127.0.0.1:1" in project.fail("storage", "gc", code=3)
    assert "older-than" in project.fail("storage", "gc", "--older-than", "0", code=2)


def test_what_a_collection_says(capsys: pytest.CaptureFixture[str]) -> None:
    done = Collected(runs=2, kept=3, young=1, deleted=4, deleted_bytes=4096, is_dry=True)
    print_collected(done, "text")
    out, err = capsys.readouterr()
    assert "4 payloads, 4.1 kB" in out
    assert "would be deleted" in out
    assert err == "Nothing was deleted.\n"
