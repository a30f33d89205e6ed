"""`perdure run`: a run with whatever it needs, and all of that stopped again at the end."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta

from perdure._local_server import is_free
from perdure.cli._context import (
    Project,
    is_more_configured,
    is_temporal_configured,
    load_app,
    local_address,
    open_client,
    say,
)
from perdure.cli._errors import run_outcome
from perdure.cli._follow import follow
from perdure.cli._outcome import print_result
from perdure.cli._render import console, print_items
from perdure.cli._starting import AgentStart, WorkflowStart
from perdure.client import PerdureClient, has_pollers
from perdure.devserver import DevServer
from perdure.errors import ServerUnreachableError
from perdure.worker import run_worker

_GRACE = timedelta(seconds=10)
"""For calls in flight when Ctrl-C comes; what isn't over by then is tried again by the next worker."""


@dataclass(frozen=True)
class Surroundings:
    """What a run needs, for as long as the context is open."""

    client: PerdureClient
    server: DevServer | None
    """Run here, since none answered."""
    has_worker: bool
    """A worker was there; else one is run here."""

    @property
    def needed(self) -> str:
        """What must run for the run to go on, once this process is gone."""
        if self.server is not None and not self.server.is_external:
            return "`perdure dev` and then "
        return "" if self.has_worker else "`perdure worker` and then "


@asynccontextmanager
async def surroundings(project: Project) -> AsyncGenerator[Surroundings]:
    """Bring up what is missing of a server and a worker."""
    async with AsyncExitStack() as stack:
        server = await _find_server(project, stack)
        address = server.address if server else None
        client = await open_client(project, address=address)
        has_worker = await has_pollers(client.temporal, client.task_queue)
        if not has_worker:
            ui_url = project.settings.ui_url or (server.ui_url if server else None)
            await stack.enter_async_context(_worker(project, address, ui_url))
        yield Surroundings(client, server, has_worker)


async def run_here(project: Project, start: AgentStart | WorkflowStart, output: str) -> None:
    """Start a run, follow it and print its result; bring up what is missing.

    Raises:
        RunFailed: It did not complete.
    """
    async with surroundings(project) as around:
        client, server = around.client, around.server
        started = await start.begin(client)
        link = f" Web UI: {_link(server.ui_url, started.workflow_id)}" if server and server.ui_url else ""
        say(f"Started {started.workflow_id}.{link}")
        try:
            await _finish(client, started.workflow_id, output)
        except asyncio.CancelledError:
            say(_way_back(started.workflow_id, around.needed))
            raise


async def _find_server(project: Project, stack: AsyncExitStack) -> DevServer | None:
    """Return an embedded server, where none answers and none is configured.

    Raises:
        ServerUnreachableError: There is one that refuses us, or another is meant. Retryable, but for the former.
    """
    settings = project.settings
    if is_temporal_configured():
        return None
    try:
        await open_client(project)
    except ServerUnreachableError:
        if is_more_configured() or not (settings.dev_port == 0 or is_free(settings.dev_port)):
            raise
        server = DevServer(settings.state_dir, port=settings.dev_port, ui_port=settings.dev_ui_port)
        await stack.enter_async_context(server)
        say(
            f"No Temporal answered at {local_address(settings) or 'localhost:7233'}: runs one at {server.address}."
        )
        return server
    return None


@asynccontextmanager
async def _worker(project: Project, address: str | None, ui_url: str | None) -> AsyncGenerator[None]:
    """Run a worker in this process."""
    app = project.app or load_app(project.settings.app)
    here = replace(
        project,
        app=app,
        settings=project.settings.model_copy(
            update={
                "grace_period": min(project.settings.grace_period, _GRACE),
                "ui_url": ui_url,
                "health_address": None,  # a worker beside it may have taken that
            },
        ),
    )
    stop, ready = asyncio.Event(), asyncio.Event()
    client = (await open_client(here, address=address)).temporal
    drain_client = (await open_client(here, address=address)).temporal
    running = asyncio.create_task(
        run_worker(app, here.settings, client, stop=stop, drain_client=drain_client, on_ready=ready.set)
    )
    ready_or_dead = asyncio.create_task(ready.wait())
    await asyncio.wait([running, ready_or_dead], return_when=asyncio.FIRST_COMPLETED)
    if running.done():
        ready_or_dead.cancel()
        await running
    say(f"No worker polls the Task Queue {here.settings.task_queue!r}: runs one here.")
    try:
        yield
    finally:
        stop.set()
        await running


async def _finish(client: PerdureClient, workflow_id: str, output: str) -> None:
    if output == "jsonl":
        async for event in client.watch(workflow_id):
            print_items([event], output)
    else:
        await follow(client, workflow_id, console(is_stderr=True), is_asking=True)
    with run_outcome(output, is_event=output == "jsonl"):
        result = await client.result(workflow_id)
    if output == "jsonl":
        print_items([{"kind": "result", "result": result}], output)
    else:
        print_result(result, output)


def _link(ui_url: str, workflow_id: str) -> str:
    return f"{ui_url}/namespaces/default/workflows/{workflow_id}"


def _way_back(workflow_id: str, needed: str) -> str:
    return (
        f"\nThe run {workflow_id} stays open; its state is kept."
        f" Come back with {needed}`perdure watch {workflow_id}`. (Stopping; Ctrl-C once more ends at once.)"
    )
