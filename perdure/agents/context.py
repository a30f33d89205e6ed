"""`ToolContext`: what a tool may ask about the call that it serves. Activity side."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Protocol

from perdure.contracts.memory import MemoryEntry
from perdure.contracts.messages import BlobRef

if TYPE_CHECKING:
    import httpx


class MemoryUnavailable(Exception):
    """A memory did not answer in time, or there is nobody to remember for; the text says which."""


class MemoryAccess(Protocol):
    """What is remembered of the run's user, or its tenant."""

    async def remember(self, text: str, *, key: str | None, ttl: timedelta | None, max_bytes: int) -> str:
        """Have a text remembered, and return its key. Raises MemoryUnavailable."""
        ...

    async def recall(self, query: str, *, limit: int) -> Sequence[MemoryEntry]:
        """Return what is remembered about something, the best match first. Raises MemoryUnavailable."""
        ...


class _NoMemory:
    async def remember(self, text: str, *, key: str | None, ttl: timedelta | None, max_bytes: int) -> str:
        raise MemoryUnavailable("there is none here")

    async def recall(self, query: str, *, limit: int) -> Sequence[MemoryEntry]:
        raise MemoryUnavailable("there is none here")


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolContext:
    """Give a tool a parameter of this type, and it gets one; the model doesn't see it."""

    idempotency_key: str
    """The same for every attempt at this call, also after a crash; different for any other call.

    Hand it to the service that the tool writes to, and a retried call takes effect once."""
    workflow_id: str
    tool: str
    attempt: int = 1
    """1 on the first try; Temporal counts."""
    context: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """The values that the run was started with."""
    resources: Mapping[str, Any] = field(default_factory=dict[str, Any], repr=False)
    """What the App's lifespan yielded on this worker: pools, clients, secrets."""
    http: "httpx.AsyncClient" = field(repr=False)
    """A client shared by all tools of the worker."""
    heartbeat: Callable[[], None] = field(repr=False)
    """Not needed to stay alive: perdure heartbeats for you. It raises when the run was cancelled."""
    put_blob: Callable[[bytes], BlobRef] = field(repr=False)
    """Store bytes for an image or file part, and return the reference to them."""
    tenant: str = ""
    """Who the run is for; empty for nobody in particular, and where no agent makes the call."""
    memory: MemoryAccess = field(default_factory=_NoMemory, repr=False)
    """What is remembered of the user, beyond this run. See `perdure.memory_tools`."""
