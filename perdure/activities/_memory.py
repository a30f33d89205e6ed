"""The way from a tool to the memory of its user: quick, or not at all. Activity side."""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

from temporalio.client import Client, WorkflowHandle, WorkflowQueryFailedError, WorkflowQueryRejectedError
from temporalio.service import RPCError, RPCStatusCode

from perdure.agents.context import MemoryUnavailable
from perdure.agents.recall import rank
from perdure.contracts.memory import MemoryBatch, MemoryEntry, MemoryQuery, MemoryState, MemoryView, memory_id
from perdure.contracts.names import MEMORY_QUERY, MEMORY_WORKFLOW, REMEMBER_SIGNAL
from perdure.contracts.times import TASK_TIMEOUT

PATIENCE = timedelta(seconds=2)
"""How long a tool waits for its memory, at most."""


@dataclass(frozen=True)
class RunMemory:
    """What a tool call remembers, and is reminded of.

    Attributes:
        client: Returns the client of the worker.
        task_queue: Where the memory lives, if this call is the first to tell it something.
        tenant: Who the run is for.
        context: The values that the run was started with; `user` names whose memory it is.
        key: The idempotency key of the call.
        workflow_id: The run.
        patience: How long to wait.
    """

    client: Callable[[], Client]
    task_queue: str
    tenant: str
    context: Mapping[str, Any]
    key: str
    workflow_id: str
    patience: timedelta = PATIENCE

    async def remember(self, text: str, *, key: str | None, ttl: timedelta | None, max_bytes: int) -> str:
        """Have a text remembered, and return its key.

        Raises:
            MemoryUnavailable: The server did not take it in time. It may have, all the same.
        """
        name = key or sha256(text.encode(errors="replace")).hexdigest()[:8]
        now = datetime.now(UTC)
        entry = MemoryEntry(
            key=name,
            text=text,
            at=now,
            workflow_id=self.workflow_id,
            expires_at=None if ttl is None else now + ttl,
        )
        digest = sha256(f"{self.key}\n{name}\n{text}".encode(errors="replace")).hexdigest()[:16]
        batch = MemoryBatch(id=digest, entries=(entry,), max_bytes=max_bytes)
        try:
            async with asyncio.timeout(self.patience.total_seconds()):
                await self.client().start_workflow(
                    MEMORY_WORKFLOW,
                    MemoryState(),
                    id=self._id(),
                    task_queue=self.task_queue,
                    task_timeout=TASK_TIMEOUT,
                    start_signal=REMEMBER_SIGNAL,
                    start_signal_args=[batch],
                    static_summary="What agents remember of one user",
                    rpc_timeout=self.patience,
                )
        except (RPCError, TimeoutError) as error:
            raise MemoryUnavailable(self._reason(error)) from None
        return name

    async def recall(self, query: str, *, limit: int) -> list[MemoryEntry]:
        """Return what is remembered about something, the best match first; that it was recalled is noted.

        Raises:
            MemoryUnavailable: No answer in time.
        """
        handle: WorkflowHandle[Any, Any] = self.client().get_workflow_handle(self._id())
        try:
            async with asyncio.timeout(self.patience.total_seconds()):
                view: MemoryView = await handle.query(
                    MEMORY_QUERY,
                    MemoryQuery(now=datetime.now(UTC)),
                    result_type=MemoryView,
                    rpc_timeout=self.patience,
                )
        except RPCError as error:
            if error.status == RPCStatusCode.NOT_FOUND:
                return []
            raise MemoryUnavailable(self._reason(error)) from None
        except (TimeoutError, WorkflowQueryFailedError, WorkflowQueryRejectedError) as error:
            raise MemoryUnavailable(self._reason(error)) from None
        found = rank(query, view.entries, limit)
        if found:
            batch = MemoryBatch(id=f"{self.key[:16]}-recall", recalled=tuple(entry.key for entry in found))
            with suppress(RPCError):
                await handle.signal(REMEMBER_SIGNAL, batch, rpc_timeout=self.patience)
        return found

    def _id(self) -> str:
        user = self.context.get("user")
        named = "" if user is None else str(user)
        if not named and not self.tenant:
            raise MemoryUnavailable(
                "the run has neither a user nor a tenant to remember for (start it with --context user=NAME)"
            )
        return memory_id(self.task_queue, tenant=self.tenant, user=named)

    def _reason(self, error: Exception) -> str:
        late = (RPCStatusCode.DEADLINE_EXCEEDED, RPCStatusCode.CANCELLED)
        if isinstance(error, TimeoutError) or (isinstance(error, RPCError) and error.status in late):
            return f"it did not answer within {self.patience.total_seconds():g} s"
        return str(error)[:200]
