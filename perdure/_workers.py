"""The Temporal workers of a process: one for each Task Queue that it serves. Wiring only."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from temporalio.client import Client
from temporalio.worker import PollerBehaviorSimpleMaximum, Worker

from perdure._slots import activity_options, version_options, workflow_options
from perdure._task_queues import session_queue, worker_queue
from perdure.contracts.names import SHARED_QUEUE_SUFFIX
from perdure.settings import Settings
from perdure.wiring import Parts


def make_workers(client: Client, settings: Settings, parts: Parts) -> list[Worker]:
    """Return the worker of each Task Queue that is served; that of the workflows, if any, comes first."""
    found: list[Worker] = []
    if "workflows" in settings.serve:
        found.append(make_main_worker(client, settings, parts))
    return [*found, *make_workers_beside(client, settings, parts)]


def make_main_worker(client: Client, settings: Settings, parts: Parts, *, is_draining: bool = False) -> Worker:
    """Return the worker of workflows and of all activities that have no other queue.

    Runs that began before calls had a queue of their own still make them here.

    Args:
        client: A connected client.
        settings: Sizes and times.
        parts: What it runs.
        is_draining: It answers for another worker that finishes its calls, and takes no call itself.
    """
    options = activity_options(settings, slots=settings.max_concurrent_activities)
    if is_draining:
        options["graceful_shutdown_timeout"] = timedelta(0)
    return Worker(
        client,
        task_queue=settings.task_queue,
        identity=_identity(client, parts),
        workflows=parts.workflows,
        activities=parts.activities,
        no_remote_activities=is_draining,
        interceptors=parts.interceptors,
        workflow_runner=parts.workflow_runner,
        **options,
        **workflow_options(settings),
    )


def make_workers_beside(
    client: Client, settings: Settings, parts: Parts, *, task_queue: str = "", identity: str = ""
) -> list[Worker]:
    """Return the workers of calls that have a Task Queue of their own, and the one that says how all stand.

    Where the app has calls that several runs share, each queue has one more beside it, with slots of its own: who
    waits for a shared call holds a slot of the queue that it runs on.

    Args:
        client: A connected client.
        settings: Queues, sizes and times.
        parts: What they run.
        task_queue: Of the main worker, where that is not the one in the settings.
        identity: Of the main worker, where somebody else makes it.
    """
    main, identity = task_queue or settings.task_queue, identity or _identity(client, parts)
    queues = [*_call_queues(settings, parts)]
    found = [_make_call_worker(client, settings, parts, queue, identity) for queue in queues]
    if parts.app.registry.shares_calls:
        names = [queue.name for queue in queues]
        if "workflows" in settings.serve:
            names.insert(0, main)
        found += [_make_shared_worker(client, settings, parts, name) for name in names]
    if parts.mcp.has_stateful:
        found.append(_make_session_worker(client, settings, parts, main, identity))
    return [*found, _make_describing_worker(client, parts, main, identity)]


@dataclass(frozen=True, kw_only=True)
class _CallQueue:
    name: str
    activities: Sequence[Callable[..., Any]]
    slots: int
    rate: float | None = None


def _call_queues(settings: Settings, parts: Parts) -> Iterator[_CallQueue]:
    """Yield the queues of calls that this worker serves.

    A queue's rate goes along with each poll, so that the file says it; one that was set on the live system, by
    `perdure provider limit`, goes over it, for the server, until it is taken back.
    """
    slots = settings.max_concurrent_activities
    if "models" in settings.serve:
        for table in settings.providers.values():
            if table.task_queue is not None:
                yield _CallQueue(
                    name=table.task_queue,
                    activities=[parts.models.call_model],
                    slots=table.max_concurrent or slots,
                    rate=table.max_requests_per_second,
                )
        if settings.model_task_queue is not None:
            yield _CallQueue(name=settings.model_task_queue, activities=[parts.models.call_model], slots=slots)
    if "tools" in settings.serve and settings.tool_task_queue is not None:
        yield _CallQueue(
            name=settings.tool_task_queue, activities=[parts.tools.call_tool, parts.tools.run_tool], slots=slots
        )


def _identity(client: Client, parts: Parts) -> str:
    return f"{client.identity}/{parts.mark}"


def _make_describing_worker(client: Client, parts: Parts, task_queue: str, identity: str) -> Worker:
    """Return the worker that is asked how those beside it stand, on a Task Queue that no other process polls."""
    return Worker(
        client,
        task_queue=worker_queue(task_queue, identity),
        identity=identity,
        activities=[parts.describing.describe_worker],
        activity_task_poller_behavior=PollerBehaviorSimpleMaximum(maximum=1),
    )


def _make_session_worker(
    client: Client, settings: Settings, parts: Parts, task_queue: str, identity: str
) -> Worker:
    """Return the worker of calls that need a session which this process holds, on a Task Queue of its own."""
    parts.mcp.own_queue = session_queue(task_queue, identity)
    return Worker(
        client,
        task_queue=parts.mcp.own_queue,
        identity=identity,
        activities=[parts.tools.call_tool],
        interceptors=parts.interceptors,
        **activity_options(settings, slots=settings.max_concurrent_activities),
        **version_options(settings),
    )


def _make_call_worker(
    client: Client, settings: Settings, parts: Parts, queue: _CallQueue, identity: str
) -> Worker:
    return Worker(
        client,
        task_queue=queue.name,
        identity=identity,
        activities=queue.activities,
        interceptors=parts.interceptors,
        max_task_queue_activities_per_second=queue.rate,
        **activity_options(settings, slots=queue.slots),
        **version_options(settings),
    )


def _make_shared_worker(client: Client, settings: Settings, parts: Parts, beside: str) -> Worker:
    """Return the worker of calls that several runs share; of no version, since they belong to no run."""
    return Worker(
        client,
        task_queue=beside + SHARED_QUEUE_SUFFIX,
        activities=parts.shared_activities,
        interceptors=parts.interceptors,
        **activity_options(settings, slots=settings.max_concurrent_shared_calls),
    )
