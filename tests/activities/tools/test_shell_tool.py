"""`shell_tool`: real programs, within bounds of time, output and environment."""

import asyncio
import sys
import time
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import pytest

from perdure import ToolContext, ToolRetry
from perdure.errors import InvalidToolError
from perdure.tools import shell_tool

NOBODY = cast("ToolContext", None)


async def run(*arguments: str, command: str = "sh", **options: Any) -> dict[str, Any]:
    tool = shell_tool([command], **options)
    return await tool.run({"command": command, "arguments": list(arguments)}, NOBODY)


async def test_exit_code_and_both_streams() -> None:
    told = await run("-c", "echo out; echo err >&2; exit 3")
    assert told == {"exit_code": 3, "stdout": "out\n", "stderr": "err\n"}


async def test_arguments_are_no_shell() -> None:
    told = await run("a b", "$HOME", "; rm -rf /", "*", command="echo")
    assert told["stdout"] == "a b $HOME ; rm -rf / *\n"


async def test_there_is_no_input() -> None:
    assert (await run(command="cat"))["exit_code"] == 0


async def test_the_environment_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "hunter2")
    monkeypatch.setenv("WANTED", "yes")
    told = await run(command="env", env_pass=["WANTED", "NOT_THERE"])
    names = {line.split("=")[0] for line in told["stdout"].splitlines()}
    assert "hunter2" not in told["stdout"]
    assert "WANTED" in names
    assert names <= {"PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "TZ", "WANTED"}


async def test_output_keeps_its_beginning_and_its_end() -> None:
    told = await run("-c", "echo first; yes middle | head -c 5000000; echo last", max_output_bytes=1000)
    assert told["stdout"].startswith("first\nmiddle")
    assert told["stdout"].endswith("middle\nlast\n") or told["stdout"].endswith("last\n")
    assert "bytes left out]" in told["stdout"]
    assert len(told["stdout"]) < 1100


def is_alive(pid: int) -> bool:
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().split(")")[1].split()[0] != "Z"
    return False


async def until_dead(pid: int) -> None:
    async with asyncio.timeout(5):
        while is_alive(pid):
            await asyncio.sleep(0.02)


async def test_a_program_that_takes_too_long_is_killed_with_all_that_it_started(tmp_path: Path) -> None:
    script = f"trap '' TERM; sleep 60 & echo $! > {tmp_path}/pid; echo begun; wait; wait; sleep 60"
    started = time.monotonic()
    told = await run("-c", script, timeout=timedelta(seconds=0.5))
    assert time.monotonic() - started < 6
    assert told["killed"] == "It was killed after 0.5 seconds."
    assert (told["exit_code"], told["stdout"]) == (None, "begun\n")
    await until_dead(int((tmp_path / "pid").read_text()))


async def test_cancelling_the_call_kills_it(tmp_path: Path) -> None:
    call = asyncio.create_task(run("-c", f"echo $$ > {tmp_path}/pid; sleep 60"))
    async with asyncio.timeout(5):
        while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
            await asyncio.sleep(0.02)
    pid = int((tmp_path / "pid").read_text())
    assert is_alive(pid)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await until_dead(pid)


async def test_what_is_left_in_the_background_neither_holds_the_call_nor_stays(tmp_path: Path) -> None:
    started = time.monotonic()
    told = await run("-c", f"sleep 60 & echo $! > {tmp_path}/pid; echo done")
    assert told == {"exit_code": 0, "stdout": "done\n", "stderr": ""}
    assert time.monotonic() - started < 5
    await until_dead(int((tmp_path / "pid").read_text()))


async def test_a_sandbox_goes_before_the_program(tmp_path: Path) -> None:
    told = await run("hi", command="echo", sandbox=["env", "-i", "X=1", "nice"], cwd=str(tmp_path))
    assert told["stdout"] == "hi\n"
    assert (await run(command="pwd", cwd=str(tmp_path)))["stdout"].strip() == str(tmp_path)


async def test_what_cannot_be_started_is_told() -> None:
    with pytest.raises(ToolRetry, match="can't be started on this worker: No such file"):
        await run(command="no-such-program")
    with pytest.raises(ToolRetry, match="NUL"):
        await run("a\0b")
    with pytest.raises(ToolRetry, match="too long"):
        await run("x" * 200_000)


async def test_binary_output_is_told_as_text() -> None:
    code = "import sys; sys.stdout.buffer.write(bytes([255, 65]))"
    assert (await run("-c", code, command=sys.executable))["stdout"] == "\ufffdA"


def test_declarations() -> None:
    tool = shell_tool(["git", "pytest"])
    assert tool.spec.needs_approval
    assert not tool.spec.idempotent
    assert tool.spec.max_attempts == 1
    assert tool.spec.parameters["properties"]["command"]["enum"] == ["git", "pytest"]
    assert tool.is_same(shell_tool(["git", "pytest"]))
    assert not tool.is_same(shell_tool(["git", "pytest"], sandbox=["bwrap"]))
    faulty: list[dict[str, Any]] = [
        {"commands": []},
        {"commands": "git"},
        {"commands": [""]},
        {"commands": ["git"], "sandbox": "bwrap"},
        {"commands": ["git"], "timeout": timedelta(0)},
        {"commands": ["git"], "max_output_bytes": 0},
    ]
    for options in faulty:
        with pytest.raises(InvalidToolError):
            shell_tool(**options)
