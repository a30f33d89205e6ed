"""Amazon S3, or what speaks its protocol: the client of Temporal's driver, and a collection's view of a bucket.

S3 knows no condition for a deletion that the same bytes, written again, would break. So a collection puts a word
in the bucket that it deletes, looks once more what is old, and deletes; a writer that finds its object there looks
for that word, after it has renewed the object, and waits until it is gone. Whoever comes second sees the other.

The SDK's own adapter of `aioboto3` is not used, since that imports type stubs when it runs. Importing `aioboto3`
takes half a second, so it is done late.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractContextManager, AsyncExitStack, suppress
from email.utils import parsedate_to_datetime
from typing import Any, cast

from temporalio.contrib.aws.s3driver import S3StorageDriverClient

from perdure.errors import StorageError
from perdure.storage.place import Stored
from perdure.storage.remote import LEAST_AGE, RENEW_SECONDS, Lazy, Names, telling

WORD = "perdure.sweep"
"""What a collection puts below the prefix of a namespace while it deletes."""
WORD_SECONDS = 60
"""After which the word counts no more: the collection died. It deletes only within half of that."""

_LOOK_SECONDS = 0.2


class S3Client(S3StorageDriverClient):
    """Amazon S3; credentials and region are those of AWS's own configuration."""

    def __init__(self, *, endpoint_url: str | None = None, region: str | None = None) -> None:
        """Connect later."""
        self._endpoint_url = endpoint_url
        self._region = region
        self._lazy = Lazy(self._open)
        self._once = Lazy(self._open_once)

    async def _open(self, stack: AsyncExitStack, **options: Any) -> Any:
        import aioboto3  # pyright: ignore[reportMissingTypeStubs]

        session = cast("Any", aioboto3).Session()
        client = session.client("s3", endpoint_url=self._endpoint_url, region_name=self._region, **options)
        return await stack.enter_async_context(client)

    async def _open_once(self, stack: AsyncExitStack) -> Any:
        from botocore.config import Config  # pyright: ignore[reportMissingTypeStubs]

        config: Any = cast("Any", Config)(retries={"total_max_attempts": 1})
        return await self._open(stack, config=config)

    async def api(self) -> Any:
        """Return the client of AWS's own interface."""
        return await self._lazy.get()

    async def api_once(self) -> Any:
        """Return one that tries once: a deletion that comes late could hit what was written since."""
        return await self._once.get()

    async def put_object(self, *, bucket: str, key: str, data: bytes) -> None:
        """Store an object."""
        await (await self.api()).put_object(Bucket=bucket, Key=key, Body=data)

    async def object_exists(self, *, bucket: str, key: str) -> bool:
        """Say whether an object is there, and make sure that it stays: no collection takes it."""
        while (age := await self.age(bucket, key)) is not None:
            if WORD_SECONDS < age < RENEW_SECONDS:
                return True  # too young to be deleted, and not made so by a renewal that came too late
            if age >= RENEW_SECONDS and not await self._renew(bucket, key):
                return False
            if not await self._is_swept(bucket, key):
                return True
            await asyncio.sleep(_LOOK_SECONDS)
        return False

    async def get_object(self, *, bucket: str, key: str) -> bytes:
        """Read an object."""
        found = await (await self.api()).get_object(Bucket=bucket, Key=key)
        data: bytes = await found["Body"].read()
        return data

    async def age(self, bucket: str, key: str) -> float | None:
        """Return how many seconds ago an object was written, by the store's clock; None where there is none."""
        from botocore.exceptions import ClientError  # pyright: ignore[reportMissingTypeStubs]

        try:
            found = await (await self.api()).head_object(Bucket=bucket, Key=key)
        except ClientError as error:
            if _code(error) == "404":
                return None
            raise
        return time_of(found) - found["LastModified"].timestamp()

    async def aclose(self) -> None:
        """Close the connections."""
        await self._lazy.aclose()
        await self._once.aclose()

    async def _renew(self, bucket: str, key: str) -> bool:
        """Make an object young, without its bytes; say whether it was still there."""
        from botocore.exceptions import ClientError  # pyright: ignore[reportMissingTypeStubs]

        source = {"Bucket": bucket, "Key": key}
        try:
            await (await self.api()).copy_object(
                Bucket=bucket, Key=key, CopySource=source, MetadataDirective="REPLACE"
            )
        except ClientError as error:
            if _code(error) in ("404", "NoSuchKey"):
                return False
            raise
        return True

    async def _is_swept(self, bucket: str, key: str) -> bool:
        parts = key.split("/", 3)
        if parts[:2] != ["v0", "ns"]:
            return False  # of no namespace: collections leave it alone
        age = await self.age(bucket, f"v0/ns/{parts[2]}/{WORD}")
        return age is not None and age < WORD_SECONDS


class S3Place:
    """The objects of one namespace in a bucket, for a collection."""

    least_age = LEAST_AGE

    def __init__(self, client: S3Client, bucket: str, names: Names) -> None:
        """Look there."""
        self._client = client
        self._bucket = bucket
        self._names = names

    async def now(self) -> float:
        """Return the store's time."""
        return time_of(await self._list(MaxKeys=1))

    async def pages(self, **options: str) -> AsyncIterator[Sequence[Stored]]:
        """Yield the objects of the namespace; with `StartAfter`, those of later names."""
        while True:
            answer = await self._list(**options)
            found = [
                Stored(each["Key"], each["Size"], each["LastModified"].timestamp())
                for each in answer.get("Contents", [])
            ]
            yield [stored for stored in found if self._names.is_own(stored.name)]
            if not answer.get("IsTruncated"):
                return
            options = {"ContinuationToken": answer["NextContinuationToken"]}

    async def keep(self, stored: Stored) -> None:
        """Nothing is begun with an object."""

    async def delete(self, page: Sequence[Stored], before: float) -> AsyncIterator[Stored]:
        """Delete objects that are still old, when the word is out."""
        with self._told("swept"):
            async with asyncio.timeout(WORD_SECONDS / 2):
                gone, refused = await self._delete(page, before)
        for stored in gone:
            yield stored
        if refused:
            raise StorageError(
                f"{len(refused)} objects of the bucket {self._bucket!r} can't be deleted: {refused[0]}."
            )

    async def _delete(self, page: Sequence[Stored], before: float) -> tuple[list[Stored], list[str]]:
        from botocore.exceptions import ClientError  # pyright: ignore[reportMissingTypeStubs]

        api, once = await self._client.api(), await self._client.api_once()
        word = {"Bucket": self._bucket, "Key": self._names.prefix + WORD}
        age = await self._client.age(word["Bucket"], word["Key"])
        if age is not None and age < WORD_SECONDS:
            raise StorageError(
                f"Another collection is at work in the bucket {self._bucket!r}, or died there within a minute."
            )
        await api.put_object(**word, Body=b"")
        try:
            old = [stored async for stored in self._still_old(page, before)]
            keys = [{"Key": stored.name} for stored in old]
            answer: Any = {}
            if keys:
                answer = await once.delete_objects(Bucket=self._bucket, Delete={"Objects": keys, "Quiet": True})
        except (ClientError, StorageError):
            await self._take_back(word)
            raise
        # Without an answer nobody knows whether it is still being done: the word stays until it counts no more.
        await self._take_back(word)
        errors: list[Any] = answer.get("Errors", [])
        failed = {error.get("Key") for error in errors}
        told = [f"{error.get('Code')}: {_line(error.get('Message'))}" for error in errors]
        return [stored for stored in old if stored.name not in failed], told

    async def _take_back(self, word: dict[str, str]) -> None:
        from botocore.exceptions import BotoCoreError, ClientError  # pyright: ignore[reportMissingTypeStubs]

        with suppress(BotoCoreError, ClientError):  # it counts no more after a minute in any case
            await (await self._client.api()).delete_object(**word)

    async def _still_old(self, page: Sequence[Stored], before: float) -> AsyncIterator[Stored]:
        wanted, last = {stored.name for stored in page}, page[-1].name
        async for found in self.pages(StartAfter=page[0].name[:-1]):
            for stored in found:
                if stored.name in wanted and stored.modified <= before:
                    yield stored
            if found and found[-1].name >= last:
                return

    async def _list(self, **options: Any) -> Any:
        with self._told("listed"):
            api = await self._client.api()
            return await api.list_objects_v2(Bucket=self._bucket, Prefix=self._names.prefix, **options)

    def _told(self, done: str) -> AbstractContextManager[None]:
        from botocore.exceptions import BotoCoreError, ClientError  # pyright: ignore[reportMissingTypeStubs]

        return telling(self._bucket, done, (BotoCoreError, ClientError), _line)


def time_of(answer: Any) -> float:
    """Return when the store gave an answer, by its clock."""
    date = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
    return parsedate_to_datetime(date).timestamp() if date else time.time()


def _code(error: Any) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def _line(text: object) -> str:
    return " ".join(str(text).split())[:300].rstrip(".")
