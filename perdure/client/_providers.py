"""Task Queues of providers, as the server has them: who polls, what waits, how fast they go. Client side."""

from pydantic import BaseModel, ConfigDict
from temporalio.api.enums.v1 import RateLimitSource
from temporalio.api.taskqueue.v1 import RateLimit, TaskQueue
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest, UpdateTaskQueueConfigRequest
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from perdure._task_queues import ACTIVITY_TASKS, pollers
from perdure.errors import InvalidInputError, ServerError

MAX_RATE = 100_000.0

_SOURCES = {
    RateLimitSource.RATE_LIMIT_SOURCE_API: "set by `perdure provider limit`",
    RateLimitSource.RATE_LIMIT_SOURCE_WORKER: "set by the workers",
}


class QueueState(BaseModel):
    """A Task Queue of model calls."""

    model_config = ConfigDict(frozen=True)

    task_queue: str
    workers: int
    """That poll it."""
    backlog: int
    """Calls that wait in it, as far as the server counts."""
    max_requests_per_second: float | None = None
    """Calls that it hands out; None without a limit."""
    set_by: str = ""


async def queue_state(client: Client, task_queue: str) -> QueueState:
    """Return how a Task Queue of model calls stands.

    Raises:
        RPCError: The server can't answer. Retryable.
    """
    described = await client.workflow_service.describe_task_queue(
        DescribeTaskQueueRequest(
            namespace=client.namespace,
            task_queue=TaskQueue(name=task_queue),
            task_queue_type=ACTIVITY_TASKS,
            report_stats=True,
            report_config=True,
        ),
        retry=True,
    )
    rate = described.effective_rate_limit
    source = _SOURCES.get(rate.rate_limit_source, "")
    return QueueState(
        task_queue=task_queue,
        workers=len(await pollers(client, task_queue, ACTIVITY_TASKS)),
        backlog=described.stats.approximate_backlog_count,
        max_requests_per_second=rate.requests_per_second if source else None,
        set_by=source,
    )


async def limit_queue(client: Client, task_queue: str, per_second: float | None) -> QueueState:
    """Change how many calls a second a Task Queue hands out, at once and over all workers.

    It goes over what the workers' settings say, and holds until it is changed or taken back.

    Args:
        client: A connected client.
        task_queue: A Task Queue of model calls.
        per_second: The rate; None takes it back.

    Raises:
        InvalidInputError: No rate that a queue can have. Not retryable.
        ServerError: The server is too old for it. Not retryable.
    """
    if per_second is not None and not 0 < per_second <= MAX_RATE:
        raise InvalidInputError(f"A rate is above 0 and at most {MAX_RATE:g} calls a second, not {per_second:g}.")
    update = UpdateTaskQueueConfigRequest.RateLimitUpdate(reason="perdure provider limit")
    if per_second is not None:
        update.rate_limit.CopyFrom(RateLimit(requests_per_second=per_second))
    request = UpdateTaskQueueConfigRequest(
        namespace=client.namespace,
        identity=client.service_client.config.identity,
        task_queue=task_queue,
        task_queue_type=ACTIVITY_TASKS,
        update_queue_rate_limit=update,
    )
    try:
        await client.workflow_service.update_task_queue_config(request)
    except RPCError as error:
        if error.status is RPCStatusCode.UNIMPLEMENTED:
            raise ServerError(
                "This Temporal server is too old to limit a Task Queue. Set max_requests_per_second instead."
            ) from None
        raise
    return await queue_state(client, task_queue)
