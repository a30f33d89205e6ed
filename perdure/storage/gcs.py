"""Google Cloud Storage: the client of Temporal's driver, and a collection's view of a bucket.

A collection deletes an object on condition that it is what was listed. A writer that finds its object there, and
old, changes its metadata: then it isn't.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractContextManager, AsyncExitStack
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

from temporalio.contrib.gcp.gcsdriver import GCSStorageDriverClient

from perdure.errors import StorageError
from perdure.storage.place import Stored
from perdure.storage.remote import LEAST_AGE, RENEW_SECONDS, Lazy, Names, telling

_AT_ONCE = 16
_FIELDS = "nextPageToken,items(name,size,updated,generation,metageneration)"
_CHANGED = (HTTPStatus.NOT_FOUND, HTTPStatus.PRECONDITION_FAILED)


class GCSClient(GCSStorageDriverClient):
    """Google Cloud Storage; credentials are those of the environment (Application Default Credentials)."""

    def __init__(self, *, api_root: str | None = None) -> None:
        """Connect later."""
        self._api_root = api_root
        self._lazy = Lazy(self._open)

    async def _open(self, stack: AsyncExitStack) -> Any:
        from gcloud.aio.storage import Storage

        storage: Any = Storage(api_root=self._api_root)
        return await stack.enter_async_context(storage)

    async def api(self) -> Any:
        """Return the client of Google's own interface."""
        return await self._lazy.get()

    async def _adapter(self) -> GCSStorageDriverClient:
        from temporalio.contrib.gcp.gcsdriver.gcloud_aio import new_gcloud_aio_client

        return new_gcloud_aio_client(await self.api())

    async def put_object(self, *, bucket: str, object_name: str, data: bytes) -> None:
        """Store an object; one that is there stays as it is."""
        await (await self._adapter()).put_object(bucket=bucket, object_name=object_name, data=data)

    async def object_exists(self, *, bucket: str, object_name: str) -> bool:
        """Say whether an object is there, and make sure that it stays: no collection takes it.

        Raises:
            StorageError: It is old, and may not be renewed. Retryable.
        """
        from aiohttp import ClientResponseError

        api = await self.api()
        try:
            found = await api.download_metadata(bucket, object_name)
            if time.time() - _time(found) >= RENEW_SECONDS:
                renewed = {"perdure-renewed": datetime.now(UTC).isoformat()}
                await api.patch_metadata(bucket, object_name, {"metadata": renewed})
        except ClientResponseError as error:
            if error.status == HTTPStatus.NOT_FOUND:
                return False
            if error.status == HTTPStatus.FORBIDDEN:
                raise StorageError(
                    f"An object of the bucket {bucket!r} can't be read, or renewed: {_line(error)}. Workers and "
                    "clients need the role Storage Object User (storage.objects.create, get and update).",
                    is_retryable=True,
                ) from error
            raise
        return True

    async def get_object(self, *, bucket: str, object_name: str) -> bytes:
        """Read an object."""
        data: bytes = await (await self._adapter()).get_object(bucket=bucket, object_name=object_name)
        return data

    async def aclose(self) -> None:
        """Close the connections."""
        await self._lazy.aclose()


class GCSPlace:
    """The objects of one namespace in a bucket, for a collection."""

    least_age = LEAST_AGE

    def __init__(self, client: GCSClient, bucket: str, names: Names) -> None:
        """Look there."""
        self._client = client
        self._bucket = bucket
        self._names = names

    async def now(self) -> float:
        """Return this machine's time: Google takes no credentials from one whose clock is far off."""
        await self._list({"maxResults": "1"})
        return time.time()

    async def pages(self) -> AsyncIterator[Sequence[Stored]]:
        """Yield the objects of the namespace."""
        token = ""
        while True:
            answer = await self._list({"fields": _FIELDS} | ({"pageToken": token} if token else {}))
            items: list[Any] = answer.get("items", [])
            yield [
                Stored(
                    item["name"],
                    int(item["size"]),
                    _time(item),
                    version=(str(item["generation"]), str(item["metageneration"])),
                )
                for item in items
                if self._names.is_own(item["name"])
            ]
            token = answer.get("nextPageToken", "")
            if not token:
                return

    async def keep(self, stored: Stored) -> None:
        """Nothing is begun with an object."""

    async def delete(self, page: Sequence[Stored], before: float) -> AsyncIterator[Stored]:
        """Delete objects that are what was listed."""
        for start in range(0, len(page), _AT_ONCE):
            some = page[start : start + _AT_ONCE]
            done = await asyncio.gather(*(self._delete(stored) for stored in some), return_exceptions=True)
            for stored, gone in zip(some, done, strict=True):
                if gone is True:
                    yield stored
            for error in done:
                if isinstance(error, BaseException):
                    raise error

    async def _delete(self, stored: Stored) -> bool:
        from aiohttp import ClientResponseError

        generation, metageneration = stored.version
        conditions = {"ifGenerationMatch": generation, "ifMetagenerationMatch": metageneration}
        with self._told("swept"):
            try:
                await (await self._client.api()).delete(self._bucket, stored.name, params=conditions)
            except ClientResponseError as error:
                if error.status in _CHANGED:
                    return False
                raise
        return True

    async def _list(self, options: dict[str, str]) -> Any:
        with self._told("listed"):
            return await (await self._client.api()).list_objects(
                self._bucket, params={"prefix": self._names.prefix, **options}
            )

    def _told(self, done: str) -> AbstractContextManager[None]:
        from aiohttp import ClientError

        return telling(self._bucket, done, (ClientError, OSError), _line)


def _time(found: Any) -> float:
    return datetime.fromisoformat(found["updated"]).timestamp()


def _line(error: Any) -> str:
    """Return what Google said, which is JSON within the message, or what happened on the way."""
    status, message = getattr(error, "status", None), getattr(error, "message", None)
    if status is None or message is None:
        return " ".join(f"{type(error).__name__}: {error}".split())[:300].rstrip(".")
    try:
        told = json.loads(message[message.index("{") :])["error"]["message"]
    except (ValueError, KeyError, TypeError):
        told = message
    return f"{status}: {' '.join(str(told).split())[:300]}".rstrip(".")
