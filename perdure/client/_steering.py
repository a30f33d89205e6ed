"""Messages to open runs, and pausing them. Client side."""

import asyncio
from collections.abc import Sequence
from typing import Any
from uuid import uuid4

from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import (
    Client,
    WorkflowHandle,
    WorkflowUpdateFailedError,
    WorkflowUpdateRPCTimeoutOrCancelledError,
)
from temporalio.service import RPCError, RPCStatusCode

from perdure.client._runs import check_open, check_untaken, describe, not_found
from perdure.contracts.messages import ContentPart, TextPart
from perdure.contracts.names import AGENT_WORKFLOW, PAUSE_SIGNAL, SEND_UPDATE
from perdure.contracts.steering import IDLE_SUMMARY, MAX_ID_BYTES, PauseNotice, SendReceipt, SendRequest
from perdure.errors import (
    InboxFullError,
    InvalidInputError,
    NoWorkerError,
    PayloadTooLargeError,
    PerdureError,
    revive,
)

_SECONDS = 30
_AGAIN_SECONDS = 0.2
_PASSING = (RPCStatusCode.UNAVAILABLE, RPCStatusCode.ABORTED, RPCStatusCode.RESOURCE_EXHAUSTED)


def make_request(message: str | Sequence[ContentPart], *, interrupt: bool, message_id: str | None) -> SendRequest:
    """Return the message as it is sent.

    Raises:
        InvalidInputError: It is empty, or the id is none. Not retryable.
    """
    parts = (TextPart(text=message),) if isinstance(message, str) else tuple(message)
    if not any(not isinstance(part, TextPart) or part.text.strip() for part in parts):
        raise InvalidInputError("The message is empty.")
    id = uuid4().hex if message_id is None else message_id
    if not 0 < len(id.encode(errors="replace")) <= MAX_ID_BYTES:
        raise InvalidInputError(f"A message id takes 1 to {MAX_ID_BYTES} bytes.")
    return SendRequest(id=id, parts=parts, interrupt=interrupt)


async def send(client: Client, workflow_id: str, request: SendRequest) -> SendReceipt:
    """Send a message, and wait until the run has it. Sending it again, with the same id, is safe.

    Raises:
        RunNotFoundError: There is no such run, or it is closed. Not retryable.
        InvalidInputError: It is no run of an agent, or takes no more messages. Not retryable.
        PayloadTooLargeError: The message is too large. Not retryable.
        InboxFullError: Too many messages wait for the run's next turn. Retryable.
        NoWorkerError: It wasn't taken within 30 seconds; it may be yet. Retryable.
    """
    try:
        async with asyncio.timeout(_SECONDS):
            while True:
                receipt = await _try(client, workflow_id, request)
                if receipt is not None:
                    return receipt
                await asyncio.sleep(_AGAIN_SECONDS)
    except TimeoutError:
        await _check_takes_messages(client, workflow_id)
        raise NoWorkerError(
            f"No worker took the message for run {workflow_id!r} in time; start one with `perdure worker`. "
            f"Sent again as {request.id!r}, it is not entered twice."
        ) from None


async def _try(client: Client, workflow_id: str, request: SendRequest) -> SendReceipt | None:
    """Send it once; None where the run, or the way to it, was just being replaced."""
    handle: WorkflowHandle[Any, Any] = client.get_workflow_handle(workflow_id)
    try:
        return await handle.execute_update(SEND_UPDATE, request, id=request.id, result_type=SendReceipt)
    except WorkflowUpdateFailedError as error:
        if _is_unfinished(error):
            await check_open(client, workflow_id)
            return None
        await _check_takes_messages(client, workflow_id)
        raise _refusal(workflow_id, error) from None
    except WorkflowUpdateRPCTimeoutOrCancelledError:
        return None
    except RPCError as error:
        if error.status not in _PASSING:
            await check_untaken(error, client, workflow_id)
        return None


async def _check_takes_messages(client: Client, workflow_id: str) -> None:
    """Refuse a run of anything but an agent; asked only when it refused, so that a message costs one request."""
    described = await describe(client, workflow_id)
    workflow = described.workflow_execution_info.type.name
    if workflow != AGENT_WORKFLOW:
        raise InvalidInputError(
            f"{workflow_id!r} is a run of {workflow}: messages go to runs of agents. `perdure show {workflow_id}` "
            "lists those below it."
        )


def _is_unfinished(error: WorkflowUpdateFailedError) -> bool:
    """Say whether the run closed under the update: its successor, if there is one, is asked again."""
    return getattr(error.cause, "type", "") == "AcceptedUpdateCompletedWorkflow"


def _refusal(workflow_id: str, error: WorkflowUpdateFailedError) -> PerdureError:
    reason = revive(error.cause) if error.cause else error
    if isinstance(reason, InboxFullError | PayloadTooLargeError):
        return reason.told_by(f"Run {workflow_id!r} can't take the message: ")
    message = reason.message if isinstance(reason, PerdureError) else str(reason)
    return InvalidInputError(f"Run {workflow_id!r} refused the message: {message}")


async def answered(event: HistoryEvent, client: Client) -> int | None:
    """Return how many messages a session has answered, where an event says that it waits for the next."""
    if event.event_type != EventType.EVENT_TYPE_TIMER_STARTED or not event.user_metadata.HasField("summary"):
        return None
    summary: Any = (await client.data_converter.decode([event.user_metadata.summary]))[0]
    number = str(summary).removeprefix(IDLE_SUMMARY)
    return int(number) - 1 if number.isdecimal() and number != summary else None


async def set_paused(client: Client, workflow_id: str, *, is_on: bool) -> None:
    """Tell a run to pause, or to go on; a signal, which waits for a worker if there is none.

    Raises:
        RunNotFoundError: There is no such run, or it is closed. Not retryable.
    """
    handle: WorkflowHandle[Any, Any] = client.get_workflow_handle(workflow_id)
    try:
        await handle.signal(PAUSE_SIGNAL, PauseNotice(is_on=is_on))
    except RPCError as error:
        raise not_found(error, workflow_id) from None
