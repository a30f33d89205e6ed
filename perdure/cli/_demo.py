"""What `perdure demo` does: real processes, a real kill, and figures from the run's own Event History."""

import asyncio
import os
import shutil
import signal
import sys
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import click
from temporalio.api.enums.v1 import EventType
from temporalio.client import Client

import perdure
from perdure.cli._context import local_environment
from perdure.client import PerdureClient, RunDetails, TranscriptEntry
from perdure.connection import connect
from perdure.contracts.names import CALL_MODEL
from perdure.contracts.run import RunResult
from perdure.devserver import DevServer
from perdure.errors import DevServerError, ProjectLoadError

QUESTION = "What happens when a worker dies in the middle of a call, and which calls are made again?"

_APP = "research.demo:app"
_QUEUE = "perdure-demo"
_START_SECONDS = 60
_TIME = timedelta(minutes=3)
_LINE = 110


@dataclass(frozen=True)
class _Sources:
    """Where the example and the files to read are: in the repository, or in the installed package."""

    example: Path
    corpus: tuple[Path, ...]


def _find_sources() -> _Sources:
    package = Path(perdure.__file__).parent
    repository = package.parent
    if (repository / "examples" / "research").is_dir():
        return _Sources(repository / "examples" / "research", (repository / "README.md", repository / "docs"))
    packed = package / "_demo"
    if not packed.is_dir():
        raise ProjectLoadError(f"The demo's example is missing from {packed}: install perdure again.")
    return _Sources(packed, (packed / "corpus" / "README.md", packed / "corpus" / "docs"))


def _copy_corpus(sources: _Sources, target: Path) -> int:
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for path in sources.corpus:
        if path.is_dir():
            shutil.copytree(path, target / path.name, ignore=shutil.ignore_patterns("*.png", "*.py", "reference"))
        elif path.exists():
            shutil.copy(path, target)
    return sum(path.is_file() for path in target.rglob("*"))


class _Worker:
    """A worker in a process of its own."""

    def __init__(self, server: DevServer, example: Path, folder: Path, number: int) -> None:
        """Start nothing yet."""
        self._log = folder / f"worker-{number}.log"
        self._example = example
        inherited = local_environment(server.address).items()  # without the settings of the user's project
        self._env = {
            **{key: value for key, value in inherited if not key.startswith("PERDURE_")},
            "RESEARCH_ROOT": str(folder / "corpus"),
            "PYTHONPATH": os.pathsep.join([str(example), os.environ.get("PYTHONPATH", "")]),
        }
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> int:
        command = ["-m", "perdure", "worker", "--app", _APP, "--task-queue", _QUEUE]
        with self._log.open("wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, *command, cwd=self._example, env=self._env, stdout=log, stderr=log
            )
        return self._process.pid

    def check(self) -> None:
        if self._process is not None and self._process.returncode is not None:
            tail = "\n".join(self._log.read_text(errors="replace").splitlines()[-15:])
            raise DevServerError(f"The demo's worker ended by itself:\n{tail}")

    async def end(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(number)
            await self._process.wait()


def _say(label: str, text: str) -> None:
    click.echo(f"  {click.style(f'{label:<9}', bold=True)} {text}")


@dataclass
class _Screen:
    """What has been printed of the run."""

    messages: int = 0
    turns: int = 0

    def show(self, entries: list[TranscriptEntry]) -> None:
        """Print the turns that are new."""
        for entry in entries[self.messages :]:
            if entry.message.role == "assistant":
                self.turns += 1
                calls = ", ".join(f"{call.name}({call.arguments})" for call in entry.message.tool_calls)
                text = calls if len(calls) <= _LINE else calls[: _LINE - 1] + "…"
                _say(f"turn {self.turns}", text or "the answer")
        self.messages = max(self.messages, len(entries))


async def play(question: str, *, is_kept: bool) -> None:
    """Run the demo; its files are kept below `.perdure/demo` of the working directory."""
    sources = _find_sources()
    folder = Path.cwd() / ".perdure" / "demo"
    files = _copy_corpus(sources, folder / "corpus")
    click.echo("\nAn agent answers a question. Its worker is killed with SIGKILL in the middle.\n")
    async with DevServer(folder, port=0, ui_port=0) as server:
        _say("server", f"Temporal {server.version} at {server.address} · web UI {server.ui_url}")
        _say("files", f"{files}, copied to {folder / 'corpus'}")
        async with _workers(server, sources.example, folder) as (first, second):
            client = PerdureClient(await connect(address=server.address), task_queue=_QUEUE)
            await _play_run(client, question, first, second, server)
        if is_kept:
            click.echo(f"\nThe web UI stays at {server.ui_url} until Ctrl-C.")
            await server.wait()


@asynccontextmanager
async def _workers(server: DevServer, example: Path, folder: Path) -> AsyncGenerator[tuple[_Worker, _Worker]]:
    first, second = (_Worker(server, example, folder, number) for number in (1, 2))
    try:
        yield first, second
    finally:
        await first.end(signal.SIGKILL)
        await second.end(signal.SIGTERM)


async def _play_run(
    client: PerdureClient, question: str, first: _Worker, second: _Worker, server: DevServer
) -> None:
    _say("worker", f"started, pid {await first.start()}")
    _say("question", question)
    click.echo()
    run = await client.start_agent("researcher", question)
    screen = _Screen()
    await _until_it_works(client, run.workflow_id, first, screen)
    await first.end(signal.SIGKILL)
    killed = time.monotonic()
    click.secho(f"\n  ✗ worker killed, in the middle of the model call of turn {screen.turns + 1}", fg="red")
    _say("worker", f"another started, pid {await second.start()}\n")
    result = await _finish(client, run.workflow_id, second, screen)
    click.echo(f"\n{click.style('Answer', bold=True)}\n\n{result.output}\n")
    details = await client.show(run.workflow_id)
    _report(details, await _read_attempts(client.temporal, run.workflow_id), time.monotonic() - killed)
    url = f"{server.ui_url}/namespaces/default/workflows/{run.workflow_id}"
    _say("web UI", f"{url}  (`perdure demo --keep` leaves it up)")


async def _until_it_works(client: PerdureClient, workflow_id: str, worker: _Worker, screen: _Screen) -> None:
    """Show the run until a model call is open after the first tools ran."""
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        worker.check()
        screen.show(await client.transcript(workflow_id))
        details = await client.show(workflow_id)
        if screen.turns >= 1 and any(c.activity == CALL_MODEL and c.is_started for c in details.pending):
            await asyncio.sleep(0.3)  # so that it is well under way
            return
        await asyncio.sleep(0.1)
    raise DevServerError("The demo's worker did not get to work within a minute; see .perdure/demo/worker-1.log.")


async def _finish(client: PerdureClient, workflow_id: str, worker: _Worker, screen: _Screen) -> RunResult:
    waiting = asyncio.create_task(client.result(workflow_id, timeout=_TIME))
    while not waiting.done():
        worker.check()
        await asyncio.wait([waiting], timeout=0.2)
        screen.show(await client.transcript(workflow_id))
    result = await waiting
    assert isinstance(result, RunResult), "the demo runs an agent"
    return result


@dataclass
class _Attempts:
    """How often each call was started, from Event History."""

    finished: int = 0
    again: list[str] = field(default_factory=list[str])


async def _read_attempts(client: Client, workflow_id: str) -> _Attempts:
    names: dict[int, str] = {}
    attempts = _Attempts()
    async for event in client.get_workflow_handle(workflow_id).fetch_history_events():
        if event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED:
            names[event.event_id] = event.activity_task_scheduled_event_attributes.activity_type.name
        elif event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_STARTED:
            started = event.activity_task_started_event_attributes
            if started.attempt > 1:
                attempts.again.append(f"{names[started.scheduled_event_id]} (attempt {started.attempt})")
        elif event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED:
            attempts.finished += 1
    return attempts


def _report(details: RunDetails, attempts: _Attempts, seconds: float) -> None:
    used = details.counters
    _say("took", f"{used.turns} turns, {used.tool_calls} tool calls, {used.usage.total_tokens:,} tokens")
    size = details.info.history_bytes / 1000
    _say("history", f"{size:.0f} kB in {details.info.history_events} events; each message is recorded once")
    _say("kept", f"{attempts.finished - len(attempts.again)} model and tool calls ran once and were not repeated")
    _say("again", f"{', '.join(attempts.again) or 'nothing'}: in flight when the worker died")
    _say("resumed", f"finished {seconds:.1f} s after the kill")
