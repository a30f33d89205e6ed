"""What is remembered of users, as people see it, and have it forgotten. Client side."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from temporalio.client import Client, WorkflowHandle
from temporalio.service import RPCError, RPCStatusCode

from perdure.client._updates import deliver_update
from perdure.contracts.memory import ForgetRequest, ForgetResult, MemoryQuery, MemoryView, memory_id
from perdure.contracts.names import FORGET_UPDATE, MEMORY_QUERY
from perdure.errors import InvalidInputError, NoWorkerError, RunNotFoundError

_TIMEOUT = timedelta(seconds=10)


class MemoryReader:
    """The memories of a Task Queue's agents; `PerdureClient.memory`."""

    def __init__(self, client: Client, *, task_queue: str, update_timeout: timedelta) -> None:
        """Work with these."""
        self._client = client
        self._task_queue = task_queue
        self._update_timeout = update_timeout

    async def show(self, user: str = "", *, tenant: str = "") -> MemoryView:
        """Return what is remembered of a user, or without one for a tenant, what was used last first.

        Raises:
            InvalidInputError: Neither is given. Not retryable.
            NoWorkerError: No worker answered within 10 seconds. Retryable.
        """
        handle: WorkflowHandle[Any, Any] = self._client.get_workflow_handle(self._id(user, tenant))
        query = MemoryQuery(now=datetime.now(UTC))
        try:
            return await handle.query(MEMORY_QUERY, query, result_type=MemoryView, rpc_timeout=_TIMEOUT)
        except RPCError as error:
            if error.status == RPCStatusCode.NOT_FOUND:
                return MemoryView()
            raise _explained(error) from None

    async def forget(
        self, user: str = "", *, keys: Sequence[str] = (), is_all: bool = False, tenant: str = ""
    ) -> tuple[str, ...]:
        """Have entries forgotten, and return the keys of those that there were.

        The memory goes on in a new run that never knew them. Earlier histories hold them until their time of
        retention is over.

        Raises:
            InvalidInputError: Neither a user nor a tenant, or nothing to forget, is given. Not retryable.
            NoWorkerError: No worker did so in the client's `update_timeout`; it may be done yet. Retryable.
        """
        if bool(keys) == is_all:
            raise InvalidInputError("Say what to forget: either keys, or everything.")
        request = ForgetRequest(keys=tuple(keys), is_all=is_all)
        try:
            result: ForgetResult = await deliver_update(
                self._client,
                self._id(user, tenant),
                FORGET_UPDATE,
                [request],
                result_type=ForgetResult,
                is_repeatable=True,
                undone="forgot anything",
                timeout=self._update_timeout,
            )
        except RunNotFoundError:
            return ()
        return result.keys

    def _id(self, user: str, tenant: str) -> str:
        if not user and not tenant:
            raise InvalidInputError("Whose memory? Give a user, a tenant or both.")
        return memory_id(self._task_queue, tenant=tenant, user=user)


def _explained(error: RPCError) -> Exception:
    if error.status in (RPCStatusCode.DEADLINE_EXCEEDED, RPCStatusCode.CANCELLED):
        return NoWorkerError("No worker answered for the memory in time; start one with `perdure worker`.")
    return error
