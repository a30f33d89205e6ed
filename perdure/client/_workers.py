"""Asks each live worker how it stands. Client side.

The question is a standalone activity on the worker's own Task Queue. It is deleted once it is answered, and ends
by itself after a few seconds, so that neither a dead worker nor an old one holds anybody up.
"""

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from datetime import timedelta
from typing import Final
from uuid import uuid4

from pydantic import BaseModel, ConfigDict
from temporalio.api.workflowservice.v1 import DeleteActivityExecutionRequest
from temporalio.client import ActivityFailureError, Client
from temporalio.common import RetryPolicy
from temporalio.service import RPCError, RPCStatusCode

from perdure._task_queues import ACTIVITY_TASKS, pollers, worker_queue
from perdure.contracts.names import DESCRIBE_WORKER
from perdure.contracts.workers import ProviderState, WorkerState

_AT_ONCE: Final = 50


class WorkerView(BaseModel):
    """A worker that polls, and what it says."""

    model_config = ConfigDict(frozen=True)

    identity: str
    providers: tuple[ProviderState, ...] = ()
    """Those that it has called."""
    problem: str = ""
    """Why it says nothing; empty when it answered."""


async def ask_workers(
    client: Client,
    task_queue: str,
    *,
    call_queues: Iterable[str] = (),
    timeout: timedelta = timedelta(seconds=3),
) -> list[WorkerView]:
    """Ask all workers at once; who doesn't answer within `timeout` is returned with the problem.

    Args:
        client: A connected client.
        task_queue: That of the runs.
        call_queues: Task Queues of model calls: some workers serve nothing else.
        timeout: For each of them.

    Raises:
        RPCError: The server can't say who polls. Retryable.
    """
    slots = asyncio.Semaphore(_AT_ONCE)

    async def ask(identity: str) -> WorkerView:
        async with slots:
            return await _ask(client, task_queue, identity, timeout)

    found = [await pollers(client, queue, ACTIVITY_TASKS) for queue in (task_queue, *call_queues)]
    return await asyncio.gather(*map(ask, sorted(set[str]().union(*found))))


async def _ask(client: Client, task_queue: str, identity: str, timeout: timedelta) -> WorkerView:
    activity_id = f"perdure-worker-{uuid4().hex}"
    try:
        async with asyncio.timeout(timeout.total_seconds() + 1):
            state = await client.execute_activity(
                DESCRIBE_WORKER,
                id=activity_id,
                task_queue=worker_queue(task_queue, identity),
                result_type=WorkerState,
                schedule_to_close_timeout=timeout,
                retry_policy=RetryPolicy(maximum_attempts=1),
                summary="perdure provider list",
            )
    except (TimeoutError, ActivityFailureError):
        return WorkerView(identity=identity, problem=f"no answer within {timeout.total_seconds():g} s")
    except RPCError as error:
        if error.status is RPCStatusCode.UNIMPLEMENTED:
            return WorkerView(identity=identity, problem="this Temporal server has no standalone activities")
        return WorkerView(identity=identity, problem=error.message)
    finally:
        await _delete(client, activity_id)
    return WorkerView(identity=identity, providers=state.providers)


async def _delete(client: Client, activity_id: str) -> None:
    request = DeleteActivityExecutionRequest(namespace=client.namespace, activity_id=activity_id)
    with suppress(RPCError):  # it was never started, or the server deletes it at the end of its retention
        await client.workflow_service.delete_activity_execution(request, timeout=timedelta(seconds=1))
