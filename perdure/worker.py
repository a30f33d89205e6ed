"""Runs a worker until it is told to stop. Wiring only.

A worker that stops finishes its model and tool calls before it is gone. Meanwhile a second worker, for workflow
tasks alone, answers the queries of those calls: the first polls for nothing more.
"""

import asyncio
import logging
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from functools import partial
from types import FrameType

from temporalio.client import Client
from temporalio.worker import Worker

from perdure._health import Health
from perdure._retention import check_retention
from perdure._workers import make_main_worker, make_workers
from perdure.app import App
from perdure.settings import Settings
from perdure.telemetry.client import with_caller_context
from perdure.telemetry.metrics import meter_of
from perdure.wiring import Parts, make_parts

_log = logging.getLogger(__name__)

_MAX_THREADS = 64


async def run_worker(
    app: App,
    settings: Settings,
    client: Client,
    *,
    stop: asyncio.Event,
    drain_client: Client | None = None,
    on_ready: Callable[[], None] | None = None,
) -> None:
    """Serve runs until `stop` is set, then finish the calls in flight within the grace period.

    Args:
        app: What to serve.
        settings: Task Queues, sizes and times.
        client: A connected client.
        stop: Set it to stop.
        drain_client: A second connection, for answering queries while calls finish; none, no answers.
        on_ready: Called when the worker polls.

    Raises:
        SettingsError: The server keeps results for less than a ttl, or an address is taken. Not retryable.
    """
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(_MAX_THREADS, "perdure-tool"))
    parts = make_parts(app, settings, meter=meter_of(client))
    if parts.telemetry.spans is not None:
        client = with_caller_context(client)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(parts.telling(client))
        await stack.enter_async_context(parts.opened())
        if app.registry.shares_calls:
            await check_retention(client, app.registry)
        workers = make_workers(client, settings, parts)
        if settings.health_address is not None:
            health = Health(client, workers, stop)
            await stack.enter_async_context(health.served(settings.health_address))
        running = [asyncio.create_task(worker.run()) for worker in workers]
        try:
            if on_ready is not None:
                on_ready()
            stopping = asyncio.create_task(stop.wait())
            await asyncio.wait([*running, stopping], return_when=asyncio.FIRST_COMPLETED)
            stopping.cancel()
        finally:
            stop.set()  # also when a worker broke: it is not ready any more
            await _drain(workers, settings, parts, drain_client)
            await asyncio.gather(*running)


async def _drain(workers: Sequence[Worker], settings: Settings, parts: Parts, client: Client | None) -> None:
    async with AsyncExitStack() as stack:
        if client is not None and "workflows" in settings.serve and workers[0].is_running:
            try:
                await stack.enter_async_context(make_main_worker(client, settings, parts, is_draining=True))
            except Exception as error:  # such as user code on disk that no longer loads in the sandbox
                _log.warning("Calls in flight finish without a worker that answers their queries: %s", error)
        await asyncio.gather(*(worker.shutdown() for worker in workers))


def stop_on_signals(stop: asyncio.Event) -> None:
    """Set `stop` on SIGTERM and SIGINT; Python installs no handler for the former."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        try:
            loop.add_signal_handler(number, stop.set)
        except NotImplementedError:  # Windows has no signal handlers in its event loop
            signal.signal(number, partial(_stop_from_handler, loop, stop))


def _stop_from_handler(
    loop: asyncio.AbstractEventLoop, stop: asyncio.Event, _number: int, _frame: FrameType | None
) -> None:
    loop.call_soon_threadsafe(stop.set)


def new_event_loop() -> asyncio.AbstractEventLoop:
    """Return an event loop of uvloop's where that is installed: a step takes a tenth less."""
    try:
        import uvloop  # only here: it is an extra
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()
