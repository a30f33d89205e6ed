"""A worker in this process, until it is told to stop."""

import asyncio
import os

from perdure.cli._context import Project, Signals, first_of, open_client, say
from perdure.cli._format import duration
from perdure.connection import make_runtime
from perdure.encryption import check_keys
from perdure.storage.opening import data_converter
from perdure.telemetry.environment import metrics_config
from perdure.worker import run_worker

_PARENT_SECONDS = 1.0


async def serve(project: Project, *, parent: int | None = None) -> None:
    """Serve until SIGTERM or Ctrl-C; a second Ctrl-C, or the parent's end, leaves the calls in flight.

    A worker that has a parent is replaced when the source changes. While it finishes its calls it takes no
    workflow task any more: those are for the new source.
    """
    assert project.app is not None
    app, settings = project.app, project.settings
    runtime = make_runtime(metrics_config(os.environ, settings.metrics_address))
    check_keys(data_converter(settings))
    client = (await open_client(project, runtime=runtime)).temporal
    drain_client = None if parent else (await open_client(project, runtime=runtime)).temporal
    signals = Signals()
    signals.listen()
    tasks = [asyncio.create_task(_announce_stop(project, signals))]
    if parent is not None:
        tasks.append(asyncio.create_task(_stop_with(parent, signals)))
    worker = run_worker(
        app,
        settings,
        client,
        stop=signals.stop,
        drain_client=drain_client,
        on_ready=lambda: say(ready_line(project)),
    )
    running = asyncio.create_task(worker)
    try:
        await first_of(_ended(running), signals.force.wait())
        if signals.force.is_set() and not running.done():
            os._exit(130)  # whoever asks twice doesn't want to wait for threads either
        await running
    finally:
        for task in tasks:
            task.cancel()


def ready_line(project: Project) -> str:
    """Return what a worker serves."""
    assert project.app is not None
    parts = [f"Worker {os.getpid()} serves the Task Queue {project.settings.task_queue!r}"]
    if project.app.agents:
        parts.append(f"agents: {', '.join(project.app.agents)}")
    if project.app.workflows:
        parts.append(f"workflows: {', '.join(project.app.workflows)}")
    return " · ".join(parts)


async def _ended(task: "asyncio.Task[None]") -> None:
    await asyncio.wait([task])


async def _announce_stop(project: Project, signals: Signals) -> None:
    await signals.stop.wait()
    grace = duration(project.settings.grace_period)
    say(f"Worker {os.getpid()} stops: it finishes its calls, for at most {grace}. Ctrl-C twice ends it at once.")


async def _stop_with(parent: int, signals: Signals) -> None:
    while os.getppid() == parent:  # noqa: ASYNC110 - a process can't await the end of its parent
        await asyncio.sleep(_PARENT_SECONDS)
    signals.force.set()  # the server went with it, so that nothing can be finished
