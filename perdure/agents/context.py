"""`ToolContext`: what a tool may ask about the call that it serves. Activity side."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from perdure.contracts.messages import BlobRef

if TYPE_CHECKING:
    import httpx


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
