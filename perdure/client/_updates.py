"""Delivering updates: sent again until a run takes them, and given up in time. Client side.

The SDK turns a cancellation that finds its call under way into an error of its own, which neither a timeout nor
Ctrl-C gets through: here it is a cancellation again.
"""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import uuid4

from temporalio.client import (
    Client,
    WorkflowHandle,
    WorkflowUpdateFailedError,
    WorkflowUpdateRPCTimeoutOrCancelledError,
)
from temporalio.service import RPCError, RPCStatusCode

from perdure.client._runs import closed, describe, is_closed, not_found, says_closed
from perdure.client._sizes import too_large
from perdure.errors import NoWorkerError
from perdure.history import readable_storage

UPDATE_TIMEOUT = timedelta(seconds=30)
"""For a run to take an update and to answer."""

_AGAIN_SECONDS = 0.2
_UNTAKEN = RPCStatusCode.RESOURCE_EXHAUSTED
"""The server had no room for it, just then."""
_PASSING = (
    RPCStatusCode.UNAVAILABLE,
    RPCStatusCode.ABORTED,
    RPCStatusCode.DEADLINE_EXCEEDED,
    RPCStatusCode.CANCELLED,
    RPCStatusCode.INTERNAL,
    RPCStatusCode.UNKNOWN,
)
"""It may have been taken, or not."""


async def deliver_update(
    client: Client,
    workflow_id: str,
    name: str,
    args: Sequence[Any],
    *,
    result_type: type[Any] | None = None,
    id: str = "",
    is_repeatable: bool = False,
    undone: str = "",
    timeout: timedelta = UPDATE_TIMEOUT,
) -> Any:
    """Send an update until a run takes it, and return the answer.

    Args:
        client: Of Temporal.
        workflow_id: The run. Where it just gives way to its successor, that is asked.
        name: Of the update.
        args: Its arguments.
        result_type: Of the answer; what the JSON is when None.
        id: The update's, by which one run takes it once, however often it is sent; made when empty.
        is_repeatable: Taken twice, also by two runs of a chain, it does the same as once. So it is sent again
            where it may have been taken; others only where it can't have been.
        undone: What an error says that no worker did; `answered` it when empty.
        timeout: For all of it.

    Raises:
        RunNotFoundError: There is no such run, or it is closed. Not retryable.
        PayloadTooLargeError: Temporal doesn't take so much. Not retryable.
        NoWorkerError: It wasn't done in time; it may be yet. Retryable.
        WorkflowUpdateFailedError: The run refused it, or failed at it. Not retryable.
        RPCError: The server can't take it, or can't be reached.
    """
    handle: WorkflowHandle[Any, Any] = client.get_workflow_handle(workflow_id)
    id = id or uuid4().hex
    try:
        async with asyncio.timeout(timeout.total_seconds()):
            while True:
                try:
                    with readable_storage():
                        return await handle.execute_update(name, args=args, id=id, result_type=result_type)
                except WorkflowUpdateRPCTimeoutOrCancelledError as error:
                    _check_cancelled(error)
                    if not is_repeatable:
                        raise TimeoutError from error
                except WorkflowUpdateFailedError as error:
                    await _check_unfinished(error, client, workflow_id, is_repeatable=is_repeatable)
                except RPCError as error:
                    refused = too_large(error, f"What {name!r} is given")
                    if refused is not error:
                        raise refused from None
                    if not (error.status == _UNTAKEN or (is_repeatable and error.status in _PASSING)):
                        await _check_untaken(error, client, workflow_id)
                await asyncio.sleep(_AGAIN_SECONDS)
    except TimeoutError:
        raise NoWorkerError(
            f"No worker {undone or f'answered {name!r}'} for run {workflow_id!r} in time; start one with "
            "`perdure worker`. It may be done yet."
        ) from None


def _check_cancelled(error: WorkflowUpdateRPCTimeoutOrCancelledError) -> None:
    """Raise CancelledError where it was this side that gave up."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError from error


async def _check_unfinished(
    error: WorkflowUpdateFailedError, client: Client, workflow_id: str, *, is_repeatable: bool
) -> None:
    """Raise why an update failed; nothing where a run closed under it, and its successor is to be asked."""
    if getattr(error.cause, "type", "") != "AcceptedUpdateCompletedWorkflow":
        raise error
    await _check_open(client, workflow_id)
    if not is_repeatable:
        raise error


async def _check_untaken(error: RPCError, client: Client, workflow_id: str) -> None:
    """Raise why an update was not taken; nothing where the run is open, so that it can be sent again.

    Of a run that closes in that moment the server says that it doesn't know the update, not that it is closed.
    """
    if error.status != RPCStatusCode.NOT_FOUND or says_closed(error):
        raise not_found(error, workflow_id) from None
    await _check_open(client, workflow_id)


async def _check_open(client: Client, workflow_id: str) -> None:
    """Raise RunNotFoundError if there is no such run, or it is closed."""
    if is_closed(await describe(client, workflow_id)):
        raise closed(workflow_id)
