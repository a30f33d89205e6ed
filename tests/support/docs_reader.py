"""A reader of the documentation: does what a page says, in its order, and has servers run beside it."""

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from contextlib import chdir, suppress
from dataclasses import dataclass
from pathlib import Path

from click.testing import CliRunner

from perdure._local_server import free_port, is_free
from perdure.cli import cli
from tests.support.cli_project import SECONDS, environment, wait_until
from tests.support.docs_lines import ADDED, CTRL_C, PROSE, SERVES, find, why_not
from tests.support.docs_pages import REPOSITORY, Line, Written, is_like, read_page

_NEEDS_A_MOMENT = re.compile(r"perdure (approve|deny|answer|signal|task|query) |temporal worker ")
"""It fails before the run, or the worker, is there."""
_PLAIN = re.compile(r"perdure (?!run|plan run|mcp|map)[^$|<>;&~`]+")
"""It needs no shell, starts no process and runs no worker."""
_NPX = f"#!/bin/sh\nPYTHONPATH={REPOSITORY} exec {sys.executable} -m tests.support.mcp_server\n"


@dataclass
class _Ended:
    code: int
    stdout: str
    stderr: str


class Reader:
    """Has a home folder, and a port for the embedded server.

    Attributes:
        run: What `ID` stands for: the run that was started last.
        fork: The fork that was made last.
        folder: Where it is.
    """

    def __init__(self, home: Path, port: int | None = None) -> None:
        """Begin in the home folder."""
        self.run = self.fork = ""
        self.home = self.folder = home
        self.port = port or free_port()
        self._serving: dict[str, subprocess.Popen[bytes]] = {}
        programs = home / "bin"
        programs.mkdir(exist_ok=True)
        (programs / "npx").write_text(_NPX)  # the real one would ask the network
        (programs / "npx").chmod(0o755)
        path = os.pathsep.join([str(programs), str(Path(sys.executable).parent), os.environ["PATH"]])
        ports = {"PERDURE_DEV_PORT": str(self.port), "PERDURE_DEV_UI_PORT": "0"}
        given = environment({"PATH": path, "HOME": str(home), "COLUMNS": "200", **ports})
        self._environ = {name: value for name, value in given.items() if not name.startswith("PYTEST_")}

    def follow(self, page: str) -> None:
        """Write the files of a page, and type its lines."""
        prose = dict(PROSE.get(page, {}))
        for step in read_page(REPOSITORY / page):
            if isinstance(step, Written):  # a comment there says that this is the model without a key
                text = step.text.replace("openai:gpt-5-mini", "offline:reader")
                (self.folder / step.name).write_text(text)
                continue
            before = find(prose, step.text)
            for line in prose.pop(before) if before else ():
                self.type(Line(line))
            came = self.type(step)
            assert is_like(step.shown, came), f"{page}: {step.text} printed\n{came}\nand not\n{step.shown}"

    def type(self, line: Line) -> str:
        """Type a line, but for commands that aren't run here; return what it printed on stdout."""
        began = time.monotonic()
        commands = [each for each in line.text.split(" && ") if why_not(each) is None]
        came = self._do(self._fill_in(" && ".join(commands)), line.answers) if commands else ""
        print(f"{time.monotonic() - began:.1f} s  {line.text}")
        return came

    def assert_all_went_well(self) -> None:
        """Look for runs that failed, where a server still runs."""
        if any(each.startswith(("perdure dev", "temporal server")) for each in self._serving):
            assert self.type(Line("perdure list --status failed -o jsonl")) == ""

    def leave(self) -> None:
        """Kill what still serves."""
        while self._serving:
            _end(self._serving.popitem()[1], signal.SIGKILL)

    def _do(self, text: str, answers: str) -> str:
        if text == CTRL_C:
            while self._serving:
                _end(self._serving.popitem()[1], signal.SIGINT)
            return ""
        if text.startswith("pkill -9"):
            return self._kill()
        added = find(ADDED, text)
        text = text.removesuffix(" &") + (ADDED[added] if added else "")
        if served := find(SERVES, text):
            return self._serve(served, text, answers)
        ended = self._run(text)
        self._note(text, ended)
        return ended.stdout

    def _run(self, text: str) -> _Ended:
        run = self._run_here if _PLAIN.fullmatch(text) else self._run_in_shell
        ended = run(text)
        if ended.code and _NEEDS_A_MOMENT.match(text):
            wait_until(lambda: run(text).code == 0, lambda: f"{text}: {ended}")
        else:
            assert ended.code == 0, f"{text}: {ended.code}\n{ended.stdout}\n{ended.stderr}"
        assert "Traceback" not in ended.stderr, f"{text}\n{ended.stderr}"
        return ended

    def _run_here(self, text: str) -> _Ended:
        """Run a command in this process, which is quicker, and forget what it imported of the project."""
        path, modules = list(sys.path), set(sys.modules)
        with chdir(self.folder):
            result = CliRunner().invoke(cli, shlex.split(text)[1:], env=self._environ)
        sys.path[:] = path
        for name in set(sys.modules) - modules:
            if str(getattr(sys.modules[name], "__file__", "")).startswith(str(self.home)):
                del sys.modules[name]
        return _Ended(result.exit_code, result.stdout, result.stderr)

    def _run_in_shell(self, text: str) -> _Ended:
        """Run a line, and keep its variables and folder for the next."""
        script = f"{text}\ncode=$?; pwd > ~/.folder; env -0 > ~/.variables; exit $code"
        ended = subprocess.run(
            ["bash", "-c", script],
            cwd=self.folder,
            env=self._environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        self.folder = Path((self.home / ".folder").read_text().strip())
        variables = (self.home / ".variables").read_text().split("\0")
        self._environ = dict(each.split("=", 1) for each in variables if each)
        return _Ended(ended.returncode, ended.stdout, ended.stderr)

    def _serve(self, name: str, text: str, answers: str) -> str:
        file = self.home / f"{name.split()[-1]}.txt"
        with file.open("wb") as output:
            self._serving[f"{name} {len(self._serving)}"] = process = subprocess.Popen(
                ["bash", "-c", f"exec {text}"],
                cwd=self.folder,
                env=self._environ,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        assert process.stdin is not None
        process.stdin.write(answers.encode())
        process.stdin.flush()
        wait_until(
            lambda: SERVES[name] in file.read_text() or process.poll() is not None,
            lambda: f"{text}\n{file.read_text()}",
        )
        assert process.poll() is None, f"{text}: {process.returncode}\n{file.read_text()}"
        return file.read_text()

    def _kill(self) -> str:
        """Kill `perdure dev` and nothing else, as `pkill` does; but none of other tests."""
        for name in [each for each in self._serving if each.startswith("perdure dev")]:
            process = self._serving.pop(name)
            process.kill()
            process.communicate()
        wait_until(lambda: is_free(self.port), lambda: "the server outlived `perdure dev`")
        return ""

    def _fill_in(self, text: str) -> str:
        if "CALL" in text:
            wait_until(lambda: bool(self._waits()))
            text = text.replace("CALL", self._waits()[0])
        text = re.sub(r"\bID-fork-\w+", self.fork, text)
        return re.sub(r"\bID\b|\b[a-z]+-1a2b3c4d5e6f\b", self.run, text)

    def _waits(self) -> list[str]:
        shown = self._run_here(f"perdure approvals {self.run}").stdout
        return re.findall(r"^(?:approval|question) +(\S+)", shown, re.M)

    def _note(self, text: str, ended: _Ended) -> None:
        """Remember the run that was started."""
        if text.startswith("perdure fork"):
            self.fork = ended.stdout.strip()
        elif text.startswith(("perdure start", "perdure plan start", "perdure schedule trigger")):
            self.run = ended.stdout.strip()
        elif started := re.search(r"^Started ([\w-]+)", ended.stderr, re.M):
            self.run = started[1]


def _end(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)
    try:
        process.communicate(timeout=SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
