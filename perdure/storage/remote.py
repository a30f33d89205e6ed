"""What the clients of object stores have in common, for Temporal's own drivers. Client and worker side.

Clients are opened when they are first needed: commands that never meet a large payload don't pay for them.

Temporal's drivers leave an object as it is that is there already, however old. So that a collection, which goes by
age, never takes what was just referred to again, our clients make such an object young: see `RENEW_SECONDS`.
"""

import asyncio
import re
from collections.abc import Callable, Generator
from contextlib import AsyncExitStack, contextmanager
from datetime import timedelta
from importlib.util import find_spec
from typing import Any, Protocol

from temporalio.api.common.v1 import Payload
from temporalio.converter import StorageDriver, StorageDriverStoreContext, StorageDriverWorkflowInfo

from perdure.errors import SettingsError, StorageError

RENEW_SECONDS = 900
"""An object of this age is made young when it is stored again."""
LEAST_AGE = timedelta(hours=1)
"""What a collection of a bucket has to spare at least: more than the above, and clocks that differ."""

_NEEDS = {"s3": "aioboto3", "gcs": "gcloud.aio.storage"}


class _Opens(Protocol):
    async def __call__(self, stack: AsyncExitStack) -> Any: ...


class Lazy:
    """A client that is opened once, in the event loop that uses it."""

    def __init__(self, open_it: _Opens) -> None:
        """Open it later."""
        self._open = open_it
        self._stack = AsyncExitStack()
        self._lock = asyncio.Lock()
        self._client: Any = None

    async def get(self) -> Any:
        """Open it, or return what is open."""
        async with self._lock:
            if self._client is None:
                self._client = await self._open(self._stack)
            return self._client

    async def aclose(self) -> None:
        """Close it."""
        self._client = None
        await self._stack.aclose()


def check_extra(driver: str) -> None:
    """Refuse a store whose client isn't installed.

    Raises:
        SettingsError: It needs an extra. Not retryable.
    """
    if driver in _NEEDS and not _is_installed(_NEEDS[driver]):
        raise SettingsError(
            f'[tool.perdure.storage]: driver = "{driver}" needs an extra: pip install "perdure[{driver}]".'
        )


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False


@contextmanager
def telling(
    bucket: str, done: str, errors: tuple[type[Exception], ...], line: Callable[[Any], str]
) -> Generator[None]:
    """Turn what goes wrong with a bucket into one error.

    Args:
        bucket: Its name.
        done: What was being done with it.
        errors: Those of the store's client.
        line: Returns what one of them says, in a line.

    Raises:
        StorageError: Not retryable.
    """
    try:
        yield
    except TimeoutError:
        raise StorageError(f"The bucket {bucket!r} can't be {done}: it takes too long.") from None
    except errors as error:
        raise StorageError(f"The bucket {bucket!r} can't be {done}: {line(error)}.") from None


class Names:
    """The names that a driver gives the payloads of one namespace.

    Attributes:
        prefix: What all of them begin with, and no other namespace's.
    """

    def __init__(self, prefix: str) -> None:
        """Take the prefix, which ends in a slash."""
        self.prefix = prefix
        whose = r"(?:(?:wt/[^/]+/wi|at/[^/]+/ai)/[^/]+/ri/[^/]+/)?"
        self._pattern = re.compile(re.escape(prefix) + whose + r"d/sha256/[0-9a-f]{64}")

    def is_own(self, name: str) -> bool:
        """Say whether the driver made that name; what else is in the bucket is nobody's business."""
        return self._pattern.fullmatch(name) is not None


class Nowhere:
    """A store that has everything: it shows how a driver names what it stores."""

    async def object_exists(self, **_: str) -> bool:
        """Say that it is there."""
        return True


async def names_of(driver: StorageDriver, namespace: str) -> Names:
    """Return what a driver of `Nowhere` calls the payloads of a namespace.

    Raises:
        StorageError: This version of the SDK names them in a way that isn't known here. Not retryable.
    """
    context = StorageDriverStoreContext(target=StorageDriverWorkflowInfo(namespace=namespace, id="w"))
    [claim] = await driver.store(context, [Payload()])
    name = claim.claim_data.get("key") or claim.claim_data.get("object_name") or ""
    names = Names("/".join(name.split("/")[:3]) + "/")
    if not (name.startswith("v0/ns/") and names.is_own(name)):
        raise StorageError(f"Temporal's driver names objects in a way that perdure doesn't know: {name!r}.")
    return names
