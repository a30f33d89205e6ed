"""`perdure dev`: the embedded server, and a worker process that is replaced when the app's source changes."""

import asyncio
import os
import sys
from contextlib import suppress
from pathlib import Path

import click
from watchfiles import Change, DefaultFilter, awatch  # pyright: ignore[reportUnknownVariableType] - trio is optional

from perdure.cli._context import Signals, first_of, local_environment, say
from perdure.cli._errors import PROJECT
from perdure.devserver import DevServer
from perdure.errors import DevServerError, ProjectLoadError
from perdure.settings import Resolved, Settings

_GRACE_SECONDS = 10
"""For calls in flight when the worker is replaced, unless the user set a grace period."""
_RESTART_SECONDS = 1.0


async def develop(resolved: Resolved, *, is_reloading: bool) -> None:
    """Serve until SIGTERM or Ctrl-C.

    Raises:
        ProjectLoadError: No app is configured, or it can't be imported and nothing is reloaded.
        DevServerError: The server can't start, or ended.
    """
    settings = resolved.settings
    if settings.app is None:
        from perdure.project import load_app

        load_app(None, settings.project_dir)  # says how to configure one
    signals = Signals()
    signals.listen()
    async with DevServer(settings.state_dir, port=settings.dev_port, ui_port=settings.dev_ui_port) as server:
        _print_banner(settings, server, is_reloading=is_reloading)
        worker = DevWorker(_command(settings), _environment(resolved, server), signals)
        changes = Changes(settings, signals) if is_reloading else None
        supervising = asyncio.create_task(supervise(worker, changes, signals))
        try:
            await first_of(_ended(supervising), server.wait())
            if not supervising.done():
                raise DevServerError(f"The server ended. See {server.log_file}:\n{server.log_tail()}")
        finally:
            signals.stop.set()
            await supervising
            if not server.is_external:
                say("Stops the server.")


async def _ended(task: "asyncio.Task[None]") -> None:
    await asyncio.wait([task])


async def supervise(worker: "DevWorker", changes: "Changes | None", signals: Signals) -> None:
    """Keep a worker running; replace it when a file changes; stop it at the end."""
    watching = asyncio.create_task(changes.watch()) if changes else None
    try:
        while not signals.stop.is_set():
            await worker.start()
            await first_of(worker.wait(), signals.stop.wait(), *([changes.wait()] if changes else []))
            if not signals.stop.is_set():
                await _next(worker, changes, signals)
    finally:
        await worker.stop()
        if watching is not None:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)


async def _next(worker: "DevWorker", changes: "Changes | None", signals: Signals) -> None:
    """Decide what comes after a change, or after the end of a worker."""
    if changes is not None and changes.has_any():
        say(f"Changed: {changes.take()}; restarts the worker.")
        await worker.stop()
    elif worker.exit_code != PROJECT:
        say(f"The worker ended with code {worker.exit_code}; starts another.")
        await first_of(asyncio.sleep(_RESTART_SECONDS), signals.stop.wait())
    elif changes is None:
        # The worker has said why: this process only passes the exit code on.
        raise click.exceptions.Exit(PROJECT)
    else:
        say("Waits for the next change.")
        await first_of(changes.wait(), signals.stop.wait())
        if changes.has_any():
            say(f"Changed: {changes.take()}; starts the worker.")


class DevWorker:
    """The worker process."""

    def __init__(self, command: list[str], environment: dict[str, str], signals: Signals) -> None:
        """Start nothing yet."""
        self._command = command
        self._environment = environment
        self._signals = signals
        self._process: asyncio.subprocess.Process | None = None

    @property
    def exit_code(self) -> int | None:
        """The exit code of the last one; None while it runs."""
        return self._process.returncode if self._process else None

    async def start(self) -> None:
        """Start a process."""
        self._process = await asyncio.create_subprocess_exec(
            *self._command, env=self._environment, stdin=asyncio.subprocess.DEVNULL
        )

    async def wait(self) -> None:
        """Wait for its end."""
        if self._process is not None:
            await self._process.wait()

    async def stop(self) -> None:
        """Let it finish its calls; kill it when the user insists."""
        process = self._process
        if process is None or process.returncode is not None:
            return
        with suppress(ProcessLookupError):
            process.terminate()
        await first_of(process.wait(), self._signals.force.wait())
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()


class Changes:
    """Changes of the project's source files since the last look."""

    def __init__(self, settings: Settings, signals: Signals) -> None:
        """Watch the project's folder."""
        self._folder = settings.project_dir
        self._filter = _SourceFilter(settings.state_dir)
        self._signals = signals
        self._changed = asyncio.Event()
        self._files: set[str] = set()

    async def watch(self) -> None:
        """Collect changes until the process stops."""
        async for changes in awatch(self._folder, watch_filter=self._filter, stop_event=self._signals.stop):
            self._files.update(_relative(path, self._folder) for _, path in changes)
            self._changed.set()

    async def wait(self) -> None:
        """Wait for a change."""
        await self._changed.wait()

    def has_any(self) -> bool:
        """Say whether something changed."""
        return bool(self._files)

    def take(self) -> str:
        """Return what changed, and forget it."""
        files = sorted(self._files)
        self._files.clear()
        self._changed.clear()
        return ", ".join(files[:3]) + (f" and {len(files) - 3} more" if len(files) > 3 else "")


class _SourceFilter(DefaultFilter):
    """Python files and pyproject.toml; whatever else an agent's tools write is none of ours."""

    def __init__(self, state_dir: Path) -> None:
        super().__init__(ignore_paths=[str(state_dir)])

    def __call__(self, change: Change, path: str) -> bool:
        return path.endswith((".py", "pyproject.toml")) and super().__call__(change, path)


def _relative(path: str, folder: Path) -> str:
    try:
        return str(Path(path).relative_to(folder))
    except ValueError:
        return path


def _command(settings: Settings) -> list[str]:
    if settings.app is None:
        raise ProjectLoadError("No app is configured.")
    command = [sys.executable, "-m", "perdure", "worker", "--with-parent", str(os.getpid())]
    return [*command, "--app", settings.app, "--task-queue", settings.task_queue]


def _environment(resolved: Resolved, server: DevServer) -> dict[str, str]:
    """Return the worker's environment: the embedded server, whatever profile the user has."""
    environment = local_environment(server.address)
    if resolved.sources["grace_period"] == "default":
        environment["PERDURE_GRACE_PERIOD_SECONDS"] = str(_GRACE_SECONDS)
    if server.ui_url and resolved.sources["ui_url"] == "default":
        environment["PERDURE_UI_URL"] = server.ui_url
    return environment


def _print_banner(settings: Settings, server: DevServer, *, is_reloading: bool) -> None:
    where = "was there already" if server.is_external else f"state in {settings.state_dir}"
    say(f"Temporal   {server.address}, version {server.version}, {where}")
    if server.ui_url:
        say(f"Web UI     {server.ui_url}")
    reload = f"restarts when a file in {settings.project_dir} changes" if is_reloading else "isn't restarted"
    say(f"Worker     app {settings.app}; {reload}")
    if server.port != 7233 and server.is_external:
        say(f"Elsewhere: TEMPORAL_ADDRESS={server.address}")
    say("Ctrl-C stops.\n")
