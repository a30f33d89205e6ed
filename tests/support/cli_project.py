"""A user's project for tests of the command line, and the console script in it."""

import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import chdir, suppress
from dataclasses import dataclass, field
from pathlib import Path

from click.testing import CliRunner, Result

from perdure.cli import cli

REPOSITORY = Path(__file__).parents[2]
SECONDS = 30.0
_numbers = itertools.count()

APP = '''
import asyncio

from pydantic import BaseModel
from temporalio import workflow

from perdure import Agent, App, tool
from perdure.errors import ModelCallError
from perdure.testing import ScriptedModel, calls


class Order(BaseModel):
    sku: str


@tool(idempotent=True)
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@tool(idempotent=True)
async def nap(seconds: float) -> str:
    """Sleep."""
    await asyncio.sleep(seconds)
    return "rested"


def script(request, messages):
    """Do what the input says."""
    text = messages[0].text
    if "fail" in text:
        return ModelCallError("the vendor said no", kind="fatal", status_code=401)
    if "flaky" in text:
        return ModelCallError("overloaded", kind="transient", status_code=503)
    if len(messages) > 1:
        return f"The answer to {text!r} is 3."
    if "nap" in text:
        return calls(("nap", {"seconds": float(text.split()[-1])}))
    return calls(("add", {"a": 1, "b": 2}))


@workflow.defn
class OrderFlow:
    """Waits for its signal."""

    def __init__(self) -> None:
        self.note = ""
        self.is_closed = False

    @workflow.run
    async def run(self, order: Order) -> dict[str, str]:
        await workflow.wait_condition(lambda: self.is_closed)
        return {"sku": order.sku, "note": self.note}

    @workflow.signal
    def close(self, note: str) -> None:
        self.note += note
        self.is_closed = True

    @workflow.query
    def state(self, word: str) -> str:
        return f"{word}: {'closed' if self.is_closed else 'open'}"

    @workflow.update
    def rename(self, note: str) -> dict[str, str]:
        self.note = note
        return {"note": note}


calc = Agent("calc", description="Does sums.", model="scripted:x", tools=[add, nap])
app = App(agents=[calc], workflows=[OrderFlow], providers=[ScriptedModel(script)])
'''


@dataclass
class CliProject:
    """A folder with an app, and the environment of its commands."""

    folder: Path
    environ: dict[str, str] = field(default_factory=dict[str, str])
    started: "list[Running]" = field(default_factory=list["Running"])
    module: str = field(default_factory=lambda: f"cli_project_{next(_numbers)}")

    def __post_init__(self) -> None:
        """Write the project."""
        (self.folder / "pyproject.toml").write_text(f'[tool.perdure]\napp = "{self.module}:app"\n')
        self.app_file.write_text(APP)

    @property
    def app_file(self) -> Path:
        """The app's source."""
        return self.folder / f"{self.module}.py"

    def start(self, *args: str) -> "Running":
        """Start a command."""
        stderr_file = self.folder / f"stderr-{next(_numbers)}.txt"
        with stderr_file.open("w") as stderr:
            process = subprocess.Popen(
                command(*args),
                cwd=self.folder,
                env=environment(self.environ),
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                start_new_session=True,
            )
        running = Running(process, stderr_file)
        self.started.append(running)
        return running

    def kill_all(self) -> None:
        """Kill what a failed test left behind."""
        for each in self.started:
            with suppress(ProcessLookupError):
                os.killpg(each.process.pid, signal.SIGKILL)
            each.process.wait()
            if each.process.stdout is not None:
                each.process.stdout.close()

    def invoke(self, *args: str, code: int = 0) -> Result:
        """Run a command to its end, in this process: that is quicker."""
        with chdir(self.folder):
            result = CliRunner().invoke(cli, args, env=self.environ)
        assert result.exit_code == code, f"{args}: {result.exit_code}\n{result.output}"
        assert "Traceback" not in result.stderr
        return result

    def run(self, *args: str, code: int = 0, input: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run a command to its end, in a process of its own."""
        ended = subprocess.run(
            command(*args),
            cwd=self.folder,
            env=environment(self.environ),
            capture_output=True,
            text=True,
            input=input,
            timeout=SECONDS,
            check=False,
        )
        assert ended.returncode == code, f"{args}: {ended.returncode}\n{ended.stdout}\n{ended.stderr}"
        assert "Traceback" not in ended.stderr
        return ended

    def out(self, *args: str, code: int = 0) -> str:
        """Run a command in this process and return its stdout."""
        return self.invoke(*args, code=code).stdout


@dataclass
class Running:
    """A command that is still running, in a session of its own."""

    process: subprocess.Popen[str]
    stderr_file: Path

    @property
    def stderr(self) -> str:
        """What it has written so far."""
        return self.stderr_file.read_text()

    def wait_for(self, text: str, count: int = 1) -> str:
        """Wait until stderr holds a text so many times."""
        wait_until(lambda: self.stderr.count(text) >= count, lambda: f"no {text!r} in:\n{self.stderr}")
        return self.stderr

    def interrupt(self) -> None:
        """Press Ctrl-C: the signal goes to the whole group."""
        os.killpg(self.process.pid, signal.SIGINT)

    def end(self) -> tuple[int, str]:
        """Wait for its end; return the exit code and stdout."""
        stdout, _ = self.process.communicate(timeout=SECONDS)
        return self.process.returncode, stdout

    def stop(self) -> tuple[int, str]:
        """Send SIGTERM and wait."""
        if self.process.poll() is None:
            self.process.terminate()
        return self.end()


def command(*args: str) -> list[str]:
    """Return the console script's command."""
    return [sys.executable, "-m", "perdure", *args]


def environment(more: Mapping[str, str]) -> dict[str, str]:
    """Return a clean environment."""
    kept = {
        key: value for key, value in os.environ.items() if not key.startswith(("PERDURE_", "TEMPORAL_", "OTEL_"))
    }
    return {**kept, "PYTHONPATH": str(REPOSITORY), "TEMPORAL_CONFIG_FILE": os.devnull, **more}


def wait_until(is_true: Callable[[], bool], problem: Callable[[], str] = lambda: "it never came") -> None:
    """Wait, but not for ever."""
    deadline = time.monotonic() + SECONDS
    while not is_true():
        assert time.monotonic() < deadline, problem()
        time.sleep(0.05)
