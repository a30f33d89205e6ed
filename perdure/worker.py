"""Runs a worker until it is told to stop. Wiring only.

A worker that stops finishes its model and tool calls before it is gone. Meanwhile a second worker, for workflow
tasks alone, answers the queries of those calls: the first polls for nothing more.
"""

import asyncio
import logging
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from datetime import timedelta
from functools import partial
from types import FrameType

from temporalio.client import Client
from temporalio.worker import Worker

from perdure._retention import check_retention
from perdure.app import App
from perdure.settings import Settings
from perdure.wiring import (
    HEARTBEAT_THROTTLE,
    Parts,
    make_describing_worker,
    make_parts,
    make_provider_workers,
    make_shared_worker,
    new_identity,
)

_log = logging.getLogger(__name__)

_STICKY_TIMEOUT = timedelta(seconds=1)
"""A dead worker's workflow task goes to another after this long; Temporal's default is 10 s."""
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
        settings: Task queue, sizes and times.
        client: A connected client.
        stop: Set it to stop.
        drain_client: A second connection, for answering queries while calls finish; none, no answers.
        on_ready: Called when the worker polls.
    """
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(_MAX_THREADS, "perdure-tool"))
    parts = make_parts(app, settings)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(parts.opened())
        queue, identity = settings.task_queue, new_identity(client)
        worker = _make_worker(client, settings, parts, identity)
        shared: list[Worker] = make_provider_workers(client, settings, parts, identity=identity)
        shared.append(make_describing_worker(client, parts, task_queue=queue, identity=identity))
        if app.registry.shares_calls:
            await check_retention(client, app.registry)
            shared.append(make_shared_worker(client, settings, parts, task_queue=queue, identity=identity))
        for each in shared:
            await stack.enter_async_context(each)
        running = asyncio.create_task(worker.run())
        try:
            if on_ready is not None:
                on_ready()
            stopping = asyncio.create_task(stop.wait())
            await asyncio.wait([running, stopping], return_when=asyncio.FIRST_COMPLETED)
            stopping.cancel()
        finally:
            await asyncio.gather(
                _drain(worker, settings, parts, drain_client), *(each.shutdown() for each in shared)
            )
            await running


async def _drain(worker: Worker, settings: Settings, parts: Parts, client: Client | None) -> None:
    async with AsyncExitStack() as stack:
        if client is not None and worker.is_running:
            try:
                await stack.enter_async_context(_make_drain_worker(client, settings, parts))
            except Exception as error:  # such as user code on disk that no longer loads in the sandbox
                _log.warning("Calls in flight finish without a worker that answers their queries: %s", error)
        await worker.shutdown()


def _make_worker(client: Client, settings: Settings, parts: Parts, identity: str) -> Worker:
    return Worker(
        client,
        identity=identity,
        task_queue=settings.task_queue,
        workflows=parts.workflows,
        activities=parts.activities,
        interceptors=parts.interceptors,
        workflow_runner=parts.workflow_runner,
        max_cached_workflows=settings.max_cached_workflows,
        max_concurrent_workflow_tasks=settings.max_concurrent_workflow_tasks,
        max_concurrent_activities=settings.max_concurrent_activities,
        sticky_queue_schedule_to_start_timeout=_STICKY_TIMEOUT,
        max_heartbeat_throttle_interval=HEARTBEAT_THROTTLE,
        default_heartbeat_throttle_interval=HEARTBEAT_THROTTLE,
        graceful_shutdown_timeout=settings.grace_period,
    )


def _make_drain_worker(client: Client, settings: Settings, parts: Parts) -> Worker:
    return Worker(
        client,
        task_queue=settings.task_queue,
        workflows=parts.workflows,
        activities=parts.activities,
        no_remote_activities=True,
        interceptors=parts.interceptors,
        workflow_runner=parts.workflow_runner,
        max_cached_workflows=settings.max_cached_workflows,
        max_concurrent_workflow_tasks=settings.max_concurrent_workflow_tasks,
        sticky_queue_schedule_to_start_timeout=_STICKY_TIMEOUT,
    )


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
