"""Messages to open runs, and pausing them. Client side."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import uuid4

from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import Client, WorkflowHandle, WorkflowUpdateFailedError
from temporalio.service import RPCError

from perdure.client._runs import describe, not_found
from perdure.client._updates import UPDATE_TIMEOUT, deliver_update
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


async def send(
    client: Client, workflow_id: str, request: SendRequest, *, timeout: timedelta = UPDATE_TIMEOUT
) -> SendReceipt:
    """Send a message, and wait until the run has it. Sending it again, with the same id, is safe.

    Raises:
        RunNotFoundError: There is no such run, or it is closed. Not retryable.
        InvalidInputError: It is no run of an agent, or takes no more messages. Not retryable.
        PayloadTooLargeError: The message is too large. Not retryable.
        InboxFullError: Too many messages wait for the run's next turn. Retryable.
        NoWorkerError: It wasn't taken in time; it may be yet. Retryable.
    """
    try:
        return await deliver_update(
            client,
            workflow_id,
            SEND_UPDATE,
            [request],
            result_type=SendReceipt,
            id=request.id,
            is_repeatable=True,
            undone="took the message",
            timeout=timeout,
        )
    except WorkflowUpdateFailedError as error:
        await _check_takes_messages(client, workflow_id)
        raise _refusal(workflow_id, error) from None
    except NoWorkerError as error:
        await _check_takes_messages(client, workflow_id)
        raise NoWorkerError(f"{error.message} Sent again as {request.id!r}, it is not entered twice.") from None


async def _check_takes_messages(client: Client, workflow_id: str) -> None:
    """Refuse a run of anything but an agent; asked only when it refused, so that a message costs one request."""
    described = await describe(client, workflow_id)
    workflow = described.workflow_execution_info.type.name
    if workflow != AGENT_WORKFLOW:
        raise InvalidInputError(
            f"{workflow_id!r} is a run of {workflow}: messages go to runs of agents. `perdure show {workflow_id}` "
            "lists those below it."
        )


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
