"""PERDURE_REQUIRE_ALL: what lacks a program fails, rather than being skipped unseen."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.cli_project import REPOSITORY
from tests.support.programs import find, needs
from tests.support.require_all import VARIABLE

SUITE = """
import pytest

@pytest.mark.skipif(True, reason="needs a browser")
def test_that_is_marked(): ...

def test_that_finds_out():
    pytest.skip("npm is away")

@pytest.mark.xfail(reason="known")
def test_that_is_known_to_fail():
    assert False
"""


def _run(folder: Path, *options: str, is_required: bool) -> tuple[int, str]:
    (folder / "test_suite.py").write_text(SUITE)
    environ = {**os.environ, "PYTHONPATH": str(REPOSITORY), VARIABLE: "1" if is_required else ""}
    command = [sys.executable, "-m", "pytest", "-q", "-rA", "-p", "no:cacheprovider"]
    command += ["-p", "tests.support.require_all", *options, "test_suite.py"]
    ended = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, check=False)
    return ended.returncode, ended.stdout


@pytest.mark.parametrize("options", [(), ("-n", "1")], ids=["alone", "xdist"])
def test_a_skip_is_a_failure_where_all_is_required(tmp_path: Path, options: tuple[str, ...]) -> None:
    code, told = _run(tmp_path, *options, is_required=True)
    assert code == 1, told
    assert "Skipped: needs a browser" in told
    assert "Skipped: npm is away" in told
    assert "1 failed, 1 xfailed, 1 error" in told.splitlines()[-1]


def test_a_skip_is_one_elsewhere(tmp_path: Path) -> None:
    code, told = _run(tmp_path, is_required=False)
    assert code == 0, told
    assert "2 skipped, 1 xfailed" in told.splitlines()[-1]


def test_a_program_is_found_or_its_package_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find("promtool") is None
    mark = needs("promtool", "prometheus").mark
    assert (mark.args, mark.kwargs["reason"]) == (
        (True,),
        "needs promtool, prometheus: apt-get install prometheus",
    )
    program = tmp_path / "promtool"
    program.touch(mode=0o755)
    assert find("promtool") == str(program)
