"""A worker of perdure in the benchmark's own process, for what is to be looked at from within."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from temporalio.client import Client

from perdure.app import App
from perdure.client import PerdureClient
from perdure.settings import Settings
from perdure.worker import run_worker


@asynccontextmanager
async def inside(app: App, temporal: Client, queue: str) -> AsyncGenerator[PerdureClient]:
    """Run a worker, and yield a client that starts runs on it."""
    stop, ready = asyncio.Event(), asyncio.Event()
    settings = Settings(task_queue=queue)
    running = asyncio.create_task(run_worker(app, settings, temporal, stop=stop, on_ready=ready.set))
    await ready.wait()
    try:
        yield PerdureClient(temporal, task_queue=queue, registry=app.registry)
    finally:
        stop.set()
        await running
