"""What is remembered of a user, or for a tenant, beyond one run. Both sides; what the memory keeps and is told."""

from datetime import datetime
from hashlib import sha256
from typing import Annotated
from urllib.parse import quote

from pydantic import Field

from perdure.contracts._base import Contract

MAX_TEXT_BYTES = 4000
"""Of one entry."""
MAX_KEY_CHARS = 100
DEFAULT_MAX_BYTES = 100_000
LARGEST_MAX_BYTES = 1_000_000
"""All entries go along when the memory continues as new, and into the answer to a query."""
_MAX_ID_CHARS = 400


class MemoryEntry(Contract):
    """Something that is remembered."""

    key: str
    """What it is replaced and forgotten by."""
    text: str
    at: datetime
    """When it was remembered."""
    workflow_id: str = ""
    """The run that remembered it."""
    expires_at: datetime | None = None
    recalls: int = 0


class MemoryBatch(Contract):
    """What a run tells a memory, in one signal."""

    id: str
    """A batch that comes again is not taken again."""
    entries: tuple[MemoryEntry, ...] = ()
    recalled: tuple[str, ...] = ()
    """Keys of entries that a run was told of."""
    max_bytes: Annotated[int, Field(ge=1, le=LARGEST_MAX_BYTES)] | None = None
    """How much may be kept from now on; as before when None."""


class MemoryState(Contract):
    """Start a memory; also all that it hands to its successor when it continues as new."""

    entries: tuple[MemoryEntry, ...] = ()
    """What was neither written nor recalled for the longest comes first: it makes room for others."""
    batches: tuple[str, ...] = ()
    """Ids of the batches that came last."""
    max_bytes: int = DEFAULT_MAX_BYTES
    dropped: int = 0
    """Entries that made room for others, ever."""


class MemoryQuery(Contract):
    """Ask a memory for its entries."""

    now: datetime
    """What has expired by then is left out."""


class MemoryView(Contract):
    """The entries of a memory; those that were used last come first."""

    entries: tuple[MemoryEntry, ...] = ()
    bytes: int = 0
    max_bytes: int = DEFAULT_MAX_BYTES
    dropped: int = 0


class ForgetRequest(Contract):
    """Have a memory forget entries."""

    keys: tuple[str, ...] = ()
    is_all: bool = False


class ForgetResult(Contract):
    """What was forgotten."""

    keys: tuple[str, ...] = ()


def memory_id(task_queue: str, *, tenant: str, user: str) -> str:
    """Return the workflow id of the memory of a user, or with an empty `user` of a tenant."""
    owner = f"{quote(tenant, safe='')}/{quote(user, safe='')}".replace(
        "%", "="
    )  # as SDKs format ids into log lines
    if len(owner) > _MAX_ID_CHARS:
        owner = sha256(owner.encode()).hexdigest()
    return f"perdure-memory-{task_queue}/{owner}"
