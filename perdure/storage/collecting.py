"""What is in storage, and what of it no run refers to any more. Client side; needs no worker.

Marks, then sweeps. Whatever can't be read ends the collection before anything is deleted. Sweeping spares what was
young when marking began: a payload is written before the event that refers to it, and writing it again makes it
young again.
"""

from datetime import timedelta

from pydantic import BaseModel, ConfigDict
from temporalio.client import Client

from perdure.errors import SettingsError, StorageError
from perdure.storage.local import TEMPORARY, LocalStorageDriver
from perdure.storage.marking import Marks, mark
from perdure.storage.place import Place, Stored


class StorageStatus(BaseModel):
    """What a folder holds."""

    model_config = ConfigDict(frozen=True)

    driver: str
    place: str
    """The folder, or the bucket."""
    threshold_bytes: int
    payloads: int | None = None
    """None where that is not counted: in a bucket."""
    size_bytes: int | None = None
    leftovers: int = 0
    """Files of writers that died in the middle; `gc` takes them away."""


class Collected(BaseModel):
    """What a collection did, or would do."""

    model_config = ConfigDict(frozen=True)

    runs: int
    """Runs whose history was read."""
    kept: int
    """Payloads that something refers to."""
    young: int
    """Nothing refers to them yet; too young to be deleted."""
    deleted: int
    deleted_bytes: int
    is_dry: bool


async def collect(client: Client, place: Place, *, older_than: timedelta, is_dry: bool) -> Collected:
    """Delete what nothing refers to and is not young.

    Args:
        client: Of the namespace that the place is of.
        place: The payloads.
        older_than: How long nothing was written to what is deleted.
        is_dry: Delete nothing, and say what would be.

    Raises:
        SettingsError: `older_than` is too short for the place. Not retryable.
        StorageError: A reference can't be read, or the place can't be listed, or refuses. Not retryable.
        RPCError: Temporal's.
    """
    if older_than < place.least_age:
        minutes = place.least_age // timedelta(minutes=1)
        raise SettingsError(
            f"--older-than has to be {minutes} or more for a bucket: what is in use is renewed now and then.",
            source="flag --older-than",
        )
    # What is written while runs are read, a run may refer to that was read before: it has to count as young.
    before = await place.now() - older_than.total_seconds()
    return await sweep(place, await mark(client), before=before, is_dry=is_dry)


async def sweep(place: Place, marks: Marks, *, before: float, is_dry: bool) -> Collected:
    """Delete what nothing refers to.

    Args:
        place: The payloads.
        marks: What something refers to.
        before: What was written later stays.
        is_dry: Delete nothing, and say what would be.

    Raises:
        StorageError: The place can't be listed, or refuses. Not retryable.
    """
    is_begun, kept, young = False, 0, 0
    gone: list[Stored] = []
    try:
        async for page in place.pages():
            dead: list[Stored] = []
            for stored in page:
                if marks.has(stored.name):
                    kept += 1
                    await place.keep(stored)
                elif stored.modified > before:
                    young += 1
                else:
                    dead.append(stored)
            if is_dry:
                gone += dead
            elif dead:
                is_begun = True
                async for stored in place.delete(dead, before):
                    gone.append(stored)
    except StorageError as error:
        told = "Nothing was deleted."
        if is_begun:
            told = f"Deleted by then: {len(gone)}; another collection goes on from there."
        raise StorageError(f"{error.message} {told}") from None
    size = sum(stored.size for stored in gone)
    return Collected(runs=marks.runs, kept=kept, young=young, deleted=len(gone), deleted_bytes=size, is_dry=is_dry)


def measure(driver: LocalStorageDriver, threshold_bytes: int) -> StorageStatus:
    """Return what a folder holds, of all namespaces."""
    sizes = [file.stat().st_size for file in driver.all_files() if not file.name.endswith(TEMPORARY)]
    return StorageStatus(
        driver="local",
        place=str(driver.folder),
        threshold_bytes=threshold_bytes,
        payloads=len(sizes),
        size_bytes=sum(sizes),
        leftovers=sum(file.name.endswith(TEMPORARY) for file in driver.all_files()),
    )
