"""What a command works with: the settings, the app, a connected client, an event loop."""

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from types import FrameType
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from temporalio.envconfig import ClientConnectConfig
    from temporalio.runtime import Runtime

    from perdure.app import App
    from perdure.client import PerdureClient
    from perdure.settings import Resolved, Settings

_T = TypeVar("_T")
LOCAL = "127.0.0.1"


@dataclass(frozen=True)
class Project:
    """A user's project: its settings, and its app where one is configured."""

    settings: "Settings"
    app: "App | None"


def say(text: str = "") -> None:
    """Write a line to stderr."""
    click.echo(text, err=True)


def resolve(**flags: Any) -> "Resolved":
    """Find the settings; `flags` are those of the command line, None where not given."""
    from perdure.settings import Settings

    return Settings.resolve(flags=flags)


def load_project(*, needs_app: bool = False, **flags: Any) -> Project:
    """Find the settings and import the app, if one is configured or needed.

    Raises:
        SettingsError, ProjectLoadError: Not retryable.
    """
    settings = resolve(**flags).settings
    if settings.app is None and not needs_app:
        return Project(settings, None)
    from perdure.project import load_app

    return Project(settings, load_app(settings.app, settings.project_dir))


def load_app(app: str | None) -> "App":
    """Import the app.

    Raises:
        SettingsError, ProjectLoadError: Not retryable.
    """
    project = load_project(needs_app=True, app=app)
    assert project.app is not None
    return project.app


def is_temporal_configured() -> bool:
    """Say whether the user set an address, by the environment or a profile."""
    config = _temporal_config()
    return config is None or "target_host" in config  # where it can't be read, connecting tells what is wrong


def is_more_configured() -> bool:
    """Say whether the user set what the embedded server doesn't have: a namespace, an API key, TLS."""
    config = _temporal_config() or {}
    return config.get("namespace", "default") != "default" or bool(config.get("api_key") or config.get("tls"))


def _temporal_config() -> "ClientConnectConfig | None":
    from temporalio.envconfig import ClientConfig

    try:
        return ClientConfig.load_client_connect_config()
    except (RuntimeError, OSError, ValueError):
        return None


def local_address(settings: "Settings") -> str | None:
    """Return the address of the project's embedded server; None to leave it to Temporal's configuration."""
    if is_temporal_configured():
        return None
    port = _recorded_port(settings) or settings.dev_port
    return None if port in (0, 7233) else f"{LOCAL}:{port}"


def local_environment(address: str) -> dict[str, str]:
    """Return this process's environment with a local server as Temporal, whatever is configured."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("TEMPORAL_")}
    return {**kept, "TEMPORAL_ADDRESS": address, "TEMPORAL_CONFIG_FILE": os.devnull}


def _recorded_port(settings: "Settings") -> int | None:
    from perdure._local_server import open_record, read_record, try_lock

    if not (settings.state_dir / "server.json").exists():
        return None
    with suppress(OSError), open_record(settings.state_dir) as file:
        if not try_lock(file, settings.state_dir):
            return read_record(settings.state_dir).get("port")
    return None


async def open_client(
    project: Project, *, address: str | None = None, runtime: "Runtime | None" = None
) -> "PerdureClient":
    """Connect to Temporal: at `address`, else as configured, else to the project's embedded server.

    Args:
        project: Its settings.
        address: Of a local server.
        runtime: Temporal's, where metrics are sent.

    Raises:
        ServerUnreachableError: Retryable.
    """
    from perdure.client import PerdureClient
    from perdure.connection import connect
    from perdure.storage.opening import data_converter, decoding

    known = address or local_address(project.settings)
    origin, converter = "this project's embedded server", data_converter(project.settings)
    temporal = await connect(
        address=known, origin=origin, converter=converter, interceptors=decoding(converter), runtime=runtime
    )
    registry = project.app.registry if project.app else None
    settings = project.settings
    return PerdureClient(
        temporal, task_queue=settings.task_queue, registry=registry, scoreboard=settings.scoreboard
    )


async def warn_without_workers(client: "PerdureClient", task_queue: str | None = None) -> None:
    """Say on stderr when no worker polls the Task Queue; nothing where the server can't tell."""
    from temporalio.service import RPCError

    from perdure.client import has_pollers

    queue = task_queue or client.task_queue
    with suppress(RPCError):
        if await has_pollers(client.temporal, queue):
            return
        say(f"Warning: no worker polls the Task Queue {queue!r}; start one with `perdure worker`.")


def with_client(work: "Callable[[PerdureClient], Coroutine[Any, Any, _T]]", **flags: Any) -> _T:
    """Connect, and do `work`; the app isn't needed."""
    project = Project(resolve(**flags).settings, None)

    async def main() -> _T:
        return await work(await open_client(project))

    return run_async(main())


def run_async(main: Coroutine[Any, Any, _T], *, is_worker: bool = False) -> _T:
    """Run a coroutine to its end, on uvloop where a worker runs and it is installed."""
    factory = None
    if is_worker:
        from perdure.worker import new_event_loop

        factory = new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        try:
            return runner.run(main)
        finally:
            if "perdure.storage.opening" in sys.modules:
                runner.run(sys.modules["perdure.storage.opening"].close_storage())


@dataclass
class Signals:
    """What a process was told from outside."""

    stop: asyncio.Event = field(default_factory=asyncio.Event)
    """SIGTERM or Ctrl-C came."""
    force: asyncio.Event = field(default_factory=asyncio.Event)
    """Ctrl-C came twice."""
    _is_interrupted: bool = False

    def listen(self) -> None:
        """Take the signals over from Python."""
        loop = asyncio.get_running_loop()
        if sys.platform == "win32":  # its event loop has no signal handlers
            signal.signal(signal.SIGINT, partial(self._interrupt_from_handler, loop))
            return
        loop.add_signal_handler(signal.SIGTERM, self.stop.set)
        loop.add_signal_handler(signal.SIGINT, self._interrupt)

    def _interrupt(self) -> None:
        if self._is_interrupted:
            self.force.set()
        self._is_interrupted = True
        self.stop.set()

    def _interrupt_from_handler(self, loop: asyncio.AbstractEventLoop, _: int, __: FrameType | None) -> None:
        loop.call_soon_threadsafe(self._interrupt)


async def first_of(*waits: Coroutine[Any, Any, Any]) -> None:
    """Wait until one of these ends; the others are cancelled."""
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
