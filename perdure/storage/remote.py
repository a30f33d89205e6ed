"""Clients of object stores for Temporal's own drivers, opened when they are first needed. Client and worker side.

Commands that never meet a large payload don't pay for them: importing `aioboto3` takes half a second. The SDK's
own adapter of it is not used, since that imports type stubs when it runs.
"""

import asyncio
from contextlib import AsyncExitStack
from importlib.util import find_spec
from typing import Any, Protocol, cast

from temporalio.contrib.aws.s3driver import S3StorageDriverClient
from temporalio.contrib.gcp.gcsdriver import GCSStorageDriverClient

from perdure.errors import SettingsError

_NEEDS = {"s3": "aioboto3", "gcs": "gcloud.aio.storage"}


class _Opens(Protocol):
    async def __call__(self, stack: AsyncExitStack) -> Any: ...


class _Lazy:
    """A client that is opened once, in the event loop that uses it."""

    def __init__(self, open_it: _Opens) -> None:
        self._open = open_it
        self._stack = AsyncExitStack()
        self._lock = asyncio.Lock()
        self._client: Any = None

    async def get(self) -> Any:
        async with self._lock:
            if self._client is None:
                self._client = await self._open(self._stack)
            return self._client

    async def aclose(self) -> None:
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


class S3Client(S3StorageDriverClient):
    """Amazon S3, or what speaks its protocol; credentials and region are those of AWS's own configuration."""

    def __init__(self, *, endpoint_url: str | None = None, region: str | None = None) -> None:
        """Connect later."""
        self._endpoint_url = endpoint_url
        self._lazy = _Lazy(self._open)
        self._region = region

    async def _open(self, stack: AsyncExitStack) -> Any:
        import aioboto3  # pyright: ignore[reportMissingTypeStubs]

        session = cast("Any", aioboto3).Session()
        client = session.client("s3", endpoint_url=self._endpoint_url, region_name=self._region)
        return await stack.enter_async_context(client)

    async def put_object(self, *, bucket: str, key: str, data: bytes) -> None:
        """Store an object."""
        await (await self._lazy.get()).put_object(Bucket=bucket, Key=key, Body=data)

    async def object_exists(self, *, bucket: str, key: str) -> bool:
        """Say whether an object is there."""
        from botocore.exceptions import ClientError  # pyright: ignore[reportMissingTypeStubs]

        try:
            await (await self._lazy.get()).head_object(Bucket=bucket, Key=key)
        except ClientError as error:
            details: Any = error.response
            if details.get("Error", {}).get("Code") == "404":
                return False
            raise
        return True

    async def get_object(self, *, bucket: str, key: str) -> bytes:
        """Read an object."""
        found = await (await self._lazy.get()).get_object(Bucket=bucket, Key=key)
        data: bytes = await found["Body"].read()
        return data

    async def aclose(self) -> None:
        """Close the connections."""
        await self._lazy.aclose()


class GCSClient(GCSStorageDriverClient):
    """Google Cloud Storage; credentials are those of the environment (Application Default Credentials)."""

    def __init__(self, *, api_root: str | None = None) -> None:
        """Connect later."""
        self._api_root = api_root
        self._lazy = _Lazy(self._open)

    async def _open(self, stack: AsyncExitStack) -> Any:
        from gcloud.aio.storage import Storage
        from temporalio.contrib.gcp.gcsdriver.gcloud_aio import new_gcloud_aio_client

        storage: Any = Storage(api_root=self._api_root)
        return new_gcloud_aio_client(await stack.enter_async_context(storage))

    async def put_object(self, *, bucket: str, object_name: str, data: bytes) -> None:
        """Store an object; one that is there stays as it is."""
        await (await self._lazy.get()).put_object(bucket=bucket, object_name=object_name, data=data)

    async def object_exists(self, *, bucket: str, object_name: str) -> bool:
        """Say whether an object is there."""
        found: bool = await (await self._lazy.get()).object_exists(bucket=bucket, object_name=object_name)
        return found

    async def get_object(self, *, bucket: str, object_name: str) -> bytes:
        """Read an object."""
        data: bytes = await (await self._lazy.get()).get_object(bucket=bucket, object_name=object_name)
        return data

    async def aclose(self) -> None:
        """Close the connections."""
        await self._lazy.aclose()
