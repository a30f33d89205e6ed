"""`LocalStorageDriver`: payloads in a folder, by their digest. Client and worker side; for one machine.

Temporal's external storage calls it with what the payload codec has produced: what is encrypted stays so on
disk. A file is there in whole or not at all, and what is read is checked against its name.
"""

import asyncio
import os
import re
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import suppress
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from tempfile import NamedTemporaryFile
from urllib.parse import quote

from temporalio.api.common.v1 import Payload
from temporalio.converter import (
    StorageDriver,
    StorageDriverClaim,
    StorageDriverRetrieveContext,
    StorageDriverStoreContext,
)

from perdure.errors import StorageError
from perdure.storage.place import Stored

NAME = "perdure.local"
"""Written into every reference: renaming it makes stored payloads unreadable."""
TEMPORARY = ".part"
"""Ending of a file that is being written."""
GOING = ".going"
"""Ending of a file that the collector is about to delete."""

_DIGEST = re.compile(r"[0-9a-f]{64}")


class LocalStorageDriver(StorageDriver):
    """Keeps payloads in files named by the SHA-256 of what they hold, in a folder for each namespace.

    Args:
        folder: Made when it is first needed. Every client and worker of a namespace needs the same one.
        max_bytes: The largest payload that is taken.
    """

    def __init__(self, folder: Path, *, max_bytes: int) -> None:
        """Work in that folder."""
        self.folder = folder
        self._max_bytes = max_bytes

    def name(self) -> str:
        """Return the name that references carry."""
        return NAME

    def type(self) -> str:
        """Return what kind of driver it is."""
        return NAME

    async def store(
        self, context: StorageDriverStoreContext, payloads: Sequence[Payload]
    ) -> list[StorageDriverClaim]:
        """Store payloads; the same bytes are stored once.

        Raises:
            StorageError: A payload is too large, or the disk can't take it. Not retryable, or retryable.
        """
        namespace = "" if context.target is None else context.target.namespace
        return [
            await asyncio.to_thread(self._put, each.SerializeToString(deterministic=True), namespace)
            for each in payloads
        ]

    async def retrieve(
        self, context: StorageDriverRetrieveContext, claims: Sequence[StorageDriverClaim]
    ) -> list[Payload]:
        """Read payloads back.

        Raises:
            StorageError: One isn't there, or is not what it was. Retryable: the folder may come back.
        """
        return [Payload.FromString(await asyncio.to_thread(self._read, claim)) for claim in claims]

    def path(self, namespace: str, digest: str) -> Path:
        """Return where a payload is.

        Raises:
            StorageError: It is no digest. Not retryable.
        """
        if _DIGEST.fullmatch(digest) is None:
            raise StorageError(f"{digest[:100]!r} is no digest of a stored payload.")
        return self._folder_of(namespace) / digest[:2] / digest

    def files(self, namespace: str) -> Iterator[Path]:
        """Yield the stored payloads of a namespace, those that are about to go included."""
        for file in self._folder_of(namespace).glob("[0-9a-f][0-9a-f]/*"):
            if _DIGEST.fullmatch(file.name.removesuffix(GOING)):
                yield file

    def leftovers(self, namespace: str) -> Iterator[Path]:
        """Yield files of writers that died in the middle."""
        yield from self._folder_of(namespace).glob(f"[0-9a-f][0-9a-f]/*{TEMPORARY}")

    def all_files(self) -> Iterator[Path]:
        """Yield the files of all namespaces."""
        yield from self.folder.glob("*/[0-9a-f][0-9a-f]/*")

    def _folder_of(self, namespace: str) -> Path:
        """Return a folder for each namespace: what one refers to says nothing of another's payloads."""
        return self.folder / (quote(namespace, safe="").replace(".", "%2E") or "_")

    def _put(self, data: bytes, namespace: str) -> StorageDriverClaim:
        if len(data) > self._max_bytes:
            raise StorageError(
                f"A payload takes {len(data)} bytes, more than {self._max_bytes}, which external storage takes: "
                "keep it in a file or a service, and pass its name."
            )
        digest = sha256(data).hexdigest()
        path = self.path(namespace, digest)
        try:
            if not _renewed(path, len(data)):
                _write(path, data)
        except OSError as error:
            raise StorageError(
                f"A payload can't be stored in {self.folder}: {error.strerror}.", is_retryable=True
            ) from None
        return StorageDriverClaim(claim_data={"digest": digest, "namespace": namespace})

    def _read(self, claim: StorageDriverClaim) -> bytes:
        path = self.path(claim.claim_data.get("namespace", ""), claim.claim_data.get("digest", ""))
        try:
            data = path.read_bytes()
        except OSError as error:
            raise StorageError(
                f"The stored payload {path} can't be read: {error.strerror}. Clients and workers need the same "
                "folder, [tool.perdure.storage] path.",
                is_retryable=True,
            ) from None
        if sha256(data).hexdigest() != path.name:
            raise StorageError(f"The stored payload {path} is damaged: restore it from a backup.")
        return data


class LocalPlace:
    """The files of one namespace, for a collection."""

    least_age = timedelta(0)

    def __init__(self, driver: LocalStorageDriver, namespace: str) -> None:
        """Look there."""
        self._driver = driver
        self._namespace = namespace

    async def now(self) -> float:
        """Return this machine's time."""
        return time.time()

    async def pages(self) -> AsyncIterator[Sequence[Stored]]:
        """Yield payloads, and what is left of writers that died."""
        for file in (*self._driver.files(self._namespace), *self._driver.leftovers(self._namespace)):
            with suppress(FileNotFoundError):
                stat = file.stat()
                yield [Stored(file.name.removesuffix(GOING), stat.st_size, stat.st_mtime, file)]

    async def keep(self, stored: Stored) -> None:
        """Give a file its name back."""
        with suppress(FileNotFoundError):
            _restore(stored.path)

    async def delete(self, page: Sequence[Stored], before: float) -> AsyncIterator[Stored]:
        """Delete files that are still old."""
        for stored in page:
            with suppress(FileNotFoundError):
                if _delete(stored.path, before):
                    yield stored


def _delete(file: Path, before: float) -> bool:
    """Delete a file unless somebody wrote it again meanwhile.

    It is renamed first: from then on a writer finds nothing to renew, and writes it anew.
    """
    going = file if file.name.endswith(GOING) else file.with_name(file.name + GOING)
    file.rename(going)
    if going.stat().st_mtime > before:
        _restore(going)
        return False
    going.unlink()
    return True


def _restore(file: Path) -> None:
    if file.name.endswith(GOING):
        file.rename(file.with_name(file.name.removesuffix(GOING)))


def _renewed(path: Path, size: int) -> bool:
    """Say whether a file is there in whole, and make it young: the collector spares those."""
    try:
        if path.stat().st_size != size:
            return False
        os.utime(path)
    except FileNotFoundError:
        return False
    return True


def _write(path: Path, data: bytes) -> None:
    """Write a file so that it is there in whole or not at all, also after a power cut."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with NamedTemporaryFile(dir=path.parent, suffix=TEMPORARY, delete=False) as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(file.name, path)
    if os.name == "posix":
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
