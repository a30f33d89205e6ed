"""A reader of the documentation: types what a page says into a shell, and has servers run beside it."""

import os
import re
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import IO

from perdure._local_server import free_port, is_free
from tests.support.cli_project import SECONDS, environment, wait_until
from tests.support.docs_lines import ADDED, CTRL_C, SERVES, find, why_not
from tests.support.docs_pages import REPOSITORY, Line

_SHELL = """[ ! -e ~/.state ] || . ~/.state
{line}
code=$?
{{ export -p; printf 'cd %q\\n' "$PWD"; }} > ~/.state
exit $code"""
_NEEDS_A_MOMENT = re.compile(r"perdure (approve|deny|answer|signal|task|query) ")
_NPX = f"""#!/bin/sh
PYTHONPATH={REPOSITORY} exec {sys.executable} -m tests.support.mcp_server
"""


class Reader:
    """Has a home folder, and a port for the embedded server.

    Attributes:
        run: What `ID` stands for: the run that was started last.
        fork: The fork that was made last.
    """

    def __init__(self, home: Path, port: int | None = None) -> None:
        """Begin in the home folder, with variables and a folder that last from line to line."""
        self.run = self.fork = ""
        self.home, self.port = home, port or free_port()
        self._serving: dict[str, subprocess.Popen[bytes]] = {}
        programs = home / "bin"
        programs.mkdir(exist_ok=True)
        (programs / "npx").write_text(_NPX)  # the real one would ask the network
        (programs / "npx").chmod(0o755)
        path = os.pathsep.join([str(programs), str(Path(sys.executable).parent), os.environ["PATH"]])
        ours = {"PATH": path, "HOME": str(home), "COLUMNS": "200"}
        ports = {"PERDURE_DEV_PORT": str(self.port), "PERDURE_DEV_UI_PORT": "0"}
        self._environ = {k: v for k, v in environment(ours | ports).items() if not k.startswith("PYTEST_")}
        (home / ".state").unlink(missing_ok=True)

    def types(self, line: Line) -> str:
        """Type a line, but for commands that aren't run here; return what it printed on stdout."""
        commands = [each for each in line.text.split(" && ") if why_not(each) is None]
        if not commands:
            return ""
        text = self._fill_in(" && ".join(commands))
        if text == CTRL_C:
            return self.stop()
        if text.startswith("pkill -9"):
            return self._kill()
        added = find(ADDED, text)
        text = text.removesuffix(" &") + (ADDED[added] if added else "")
        if served := find(SERVES, text):
            return self._serve(served, text, line.answers)
        ended = self._run(text)
        self._note(text, ended)
        return ended.stdout

    def stop(self) -> str:
        """Press Ctrl-C where something serves, the last first, and wait for its end."""
        while self._serving:
            _, process = self._serving.popitem()
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGINT)
            try:
                process.communicate(timeout=SECONDS)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.communicate()
        return ""

    def _run(self, text: str) -> subprocess.CompletedProcess[str]:
        ended = self._shell(text)
        if ended.returncode and _NEEDS_A_MOMENT.match(text):
            wait_until(lambda: self._shell(text).returncode == 0, lambda: f"{text}\n{ended.stdout}{ended.stderr}")
        else:
            assert ended.returncode == 0, f"{text}: {ended.returncode}\n{ended.stdout}\n{ended.stderr}"
        assert "Traceback" not in ended.stderr, f"{text}\n{ended.stderr}"
        return ended

    def _shell(self, text: str) -> subprocess.CompletedProcess[str]:
        command = ["bash", "-c", _SHELL.format(line=text)]
        options = {"cwd": self.home, "env": self._environ, "stdin": subprocess.DEVNULL, "timeout": SECONDS}
        return subprocess.run(command, capture_output=True, text=True, check=False, **options)

    def _serve(self, name: str, text: str, answers: str) -> str:
        shown = self.home / f"{name.split()[-1]}.txt"
        with shown.open("wb") as output:
            self._serving[f"{name} {len(self._serving)}"] = process = self._start(text, output)
        assert process.stdin is not None
        process.stdin.write(answers.encode())
        process.stdin.flush()
        wait_until(
            lambda: SERVES[name] in shown.read_text() or process.poll() is not None,
            lambda: f"{text}\n{shown.read_text()}",
        )
        assert process.poll() is None, f"{text}: {process.returncode}\n{shown.read_text()}"
        return shown.read_text()

    def _start(self, text: str, output: IO[bytes]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            ["bash", "-c", f"[ ! -e ~/.state ] || . ~/.state; exec {text}"],
            cwd=self.home,
            env=self._environ,
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

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
            waits = self._run(
                f"until perdure approvals {self.run} | grep -m1 -E '^(approval|question)'; do :; done"
            )
            text = text.replace("CALL", waits.stdout.split()[1])
        text = re.sub(r"\bID-fork-\w+", self.fork, text)
        return re.sub(r"\bID\b|\b[a-z]+-1a2b3c4d5e6f\b", self.run, text)

    def _note(self, text: str, ended: subprocess.CompletedProcess[str]) -> None:
        """Remember the run that was started."""
        if text.startswith("perdure fork"):
            self.fork = ended.stdout.strip()
        elif text.startswith(("perdure start", "perdure plan start", "perdure schedule trigger")):
            self.run = ended.stdout.strip()
        elif started := re.search(r"^Started ([\w-]+)", ended.stderr, re.M):
            self.run = started[1]
