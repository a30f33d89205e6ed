"""Who polls a Task Queue, as far as the server knows, and where each worker is asked. Client and activity side."""

from datetime import UTC, datetime, timedelta
from hashlib import sha256

from temporalio.api.enums.v1 import TaskQueueType, WorkerStatus
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest, ListWorkersRequest
from temporalio.client import Client
from temporalio.service import RPCError

WORKFLOW_TASKS = TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW
ACTIVITY_TASKS = TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY

_FRESH = timedelta(seconds=75)
"""A poll lasts a minute, and the server lists who polled for five: older ones are gone."""
_GONE = (WorkerStatus.WORKER_STATUS_SHUTTING_DOWN, WorkerStatus.WORKER_STATUS_SHUTDOWN)


def worker_queue(task_queue: str, identity: str) -> str:
    """Return the Task Queue that only the worker of this identity polls, to be asked there."""
    return f"{task_queue}-worker-{sha256(identity.encode()).hexdigest()[:16]}"


def session_queue(task_queue: str, identity: str) -> str:
    """Return the Task Queue of calls that need a session which only the worker of this identity holds."""
    return f"{worker_queue(task_queue, identity)}-mcp"


async def has_pollers(client: Client, task_queue: str) -> bool:
    """Say whether a worker polls the Task Queue for workflow tasks.

    A worker that was killed, rather than stopped, still counts for a little over a minute.

    Raises:
        RPCError: The server can't answer. Retryable.
    """
    return bool(await pollers(client, task_queue))


async def pollers(client: Client, task_queue: str, kind: "TaskQueueType.ValueType" = WORKFLOW_TASKS) -> set[str]:
    """Return the identities of the workers that poll the Task Queue for tasks of a kind.

    Raises:
        RPCError: The server can't answer. Retryable.
    """
    described = await client.workflow_service.describe_task_queue(
        DescribeTaskQueueRequest(
            namespace=client.namespace,
            task_queue=TaskQueue(name=task_queue),
            task_queue_type=kind,
        ),
        retry=True,
    )
    fresh = datetime.now(UTC) - _FRESH
    seen = {each.identity: each.last_access_time.ToDatetime(tzinfo=UTC) for each in described.pollers}
    alive = {identity: at for identity, at in seen.items() if at > fresh}
    stopped = await _stopped(client, task_queue) if alive else {}
    return {identity for identity, at in alive.items() if at > stopped.get(identity, fresh)}


async def _stopped(client: Client, task_queue: str) -> dict[str, datetime]:
    """Return when workers of the Task Queue said that they stop, where the server keeps track of that."""
    request = ListWorkersRequest(namespace=client.namespace, query=f"TaskQueue = '{_quoted(task_queue)}'")
    try:
        listed = await client.workflow_service.list_workers(request)
    except RPCError:
        return {}
    beats = [each.worker_heartbeat for each in listed.workers_info]
    return {
        beat.worker_identity: beat.heartbeat_time.ToDatetime(tzinfo=UTC)
        for beat in beats
        if beat.task_queue == task_queue and beat.status in _GONE
    }


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace("'", "\\'")
