"""Whether the server shares a Task Queue evenly between tenants. Client side.

No API tells it, so it is tried: tasks of one fairness key wait in a Task Queue that nobody else knows, a few of
other keys come after them, and the order in which the server hands them out says it. Nothing of it is left.
"""

import asyncio
from contextlib import suppress
from datetime import timedelta
from typing import Final
from uuid import uuid4

from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import DeleteActivityExecutionRequest, PollActivityTaskQueueRequest
from temporalio.client import Client
from temporalio.common import Priority
from temporalio.service import RPCError

_MANY: Final = 32
_FEW: Final = 4
_POLLS: Final = 4
"""At once: as many as a Task Queue has partitions, so that no poll waits for another's."""
_SETTLE_SECONDS: Final = 0.5
_LIFE: Final = timedelta(seconds=15)
_TIMEOUT_SECONDS: Final = 8.0


async def is_fair(client: Client) -> bool | None:
    """Say whether tasks of a tenant that come late go before another's backlog; None where it can't be told.

    It takes a second or so, and eight at most.
    """
    name = f"perdure-doctor-{uuid4().hex}"
    ids = [
        f"{name}-{kind}-{number}" for kind, count in (("many", _MANY), ("few", _FEW)) for number in range(count)
    ]
    try:
        async with asyncio.timeout(_TIMEOUT_SECONDS):
            await asyncio.gather(*(_start(client, name, each, key="many") for each in ids[:_MANY]))
            await asyncio.sleep(_SETTLE_SECONDS)
            await asyncio.gather(*(_start(client, name, each, key=each) for each in ids[_MANY:]))
            await asyncio.sleep(_SETTLE_SECONDS)
            order = await _take(client, name, len(ids))
    except (TimeoutError, RPCError):
        return None
    finally:
        await asyncio.gather(*(_delete(client, each) for each in ids))
    # Partitions of a queue are emptied unevenly, so that some are late in either case; the first ones tell.
    second = sorted(order.index(each) for each in ids[_MANY:])[1]
    return second < _MANY // 4


async def _start(client: Client, name: str, activity_id: str, *, key: str) -> None:
    await client.start_activity(
        name,
        id=activity_id,
        task_queue=name,
        schedule_to_close_timeout=_LIFE,
        summary="perdure doctor: is the server fair?",
        priority=Priority(fairness_key=key[-40:]),
    )


async def _take(client: Client, name: str, count: int) -> list[str]:
    """Return the ids in the order in which the server hands them out."""
    order: list[str] = []
    request = PollActivityTaskQueueRequest(
        namespace=client.namespace, task_queue=TaskQueue(name=name), identity="perdure doctor"
    )

    async def poll() -> None:
        while len(order) < count:
            answer = await client.workflow_service.poll_activity_task_queue(
                request, timeout=timedelta(seconds=_TIMEOUT_SECONDS)
            )
            if answer.task_token:
                order.append(answer.activity_id)

    polls = [asyncio.create_task(poll()) for _ in range(_POLLS)]
    try:
        # The last one ends it: the others may wait for tasks that don't come.
        await asyncio.wait(polls, return_when=asyncio.FIRST_COMPLETED)
        for each in polls:
            if each.done():
                each.result()
    finally:
        for each in polls:
            each.cancel()
        await asyncio.gather(*polls, return_exceptions=True)
    return order


async def _delete(client: Client, activity_id: str) -> None:
    request = DeleteActivityExecutionRequest(namespace=client.namespace, activity_id=activity_id)
    with suppress(RPCError):  # it was never started, or the server deletes it at the end of its retention
        await client.workflow_service.delete_activity_execution(request, timeout=timedelta(seconds=2))
