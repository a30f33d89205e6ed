"""What `perdure storage` does and prints."""

from datetime import timedelta
from typing import TYPE_CHECKING

from perdure.cli._context import Project, open_client, resolve, run_async, say
from perdure.cli._format import plural, size
from perdure.cli._render import console, print_json, print_pairs
from perdure.errors import SettingsError
from perdure.storage.collecting import Collected, StorageStatus, mark, measure, sweep
from perdure.storage.local import LocalStorageDriver
from perdure.storage.opening import storage_folder

if TYPE_CHECKING:
    from perdure.settings import Settings, StorageTable

_NONE = (
    "No external storage is configured: payloads are kept in Event History, which takes 2 MB each. See "
    "[tool.perdure.storage]."
)


def read_status() -> StorageStatus:
    """Return what is in storage.

    Raises:
        SettingsError: There is none. Not retryable.
    """
    settings = resolve().settings
    table = _table(settings)
    if table.driver != "local":
        place = f"{table.bucket}" + (f" at {table.endpoint_url}" if table.endpoint_url else "")
        return StorageStatus(driver=table.driver, place=place, threshold_bytes=table.threshold_bytes)
    return measure(_driver(settings, table), table.threshold_bytes)


def collect(older_than_minutes: float, *, is_dry: bool) -> Collected:
    """Delete what nothing refers to.

    Raises:
        SettingsError: There is no storage, or it is a bucket. Not retryable.
    """
    settings = resolve().settings
    table = _table(settings)
    if table.driver != "local":
        raise SettingsError(
            f"A bucket is not collected from here: set a lifecycle rule on {table.bucket!r} that deletes objects "
            "older than your longest run and the namespace's retention together."
        )
    driver = _driver(settings, table)

    async def main() -> Collected:
        client = await open_client(Project(settings, None))
        marks = await mark(client.temporal)
        older_than = timedelta(minutes=older_than_minutes)
        return sweep(driver, client.temporal.namespace, marks, older_than=older_than, is_dry=is_dry)

    return run_async(main())


def print_status(status: StorageStatus, output: str) -> None:
    """Print what is in storage."""
    if output != "text":
        print_json(status, output)
        return
    pairs = [
        ("driver", status.driver),
        ("place", status.place),
        ("takes", f"payloads of {size(status.threshold_bytes)} and more"),
    ]
    if status.payloads is not None and status.size_bytes is not None:
        pairs.append(("holds", f"{plural(status.payloads, 'payload')}, {size(status.size_bytes)}"))
    if status.leftovers:
        pairs.append(("leftovers", f"{plural(status.leftovers, 'file')} of writers that died"))
    print_pairs(console(), pairs)


def print_collected(done: Collected, output: str) -> None:
    """Print what a collection did."""
    if output != "text":
        print_json(done, output)
        return
    verb = "would be deleted" if done.is_dry else "deleted"
    print_pairs(
        console(),
        [
            (verb, f"{plural(done.deleted, 'payload')}, {size(done.deleted_bytes)}"),
            ("kept", f"{plural(done.kept, 'payload')} that {plural(done.runs, 'run')} or others refer to"),
            ("young", f"{plural(done.young, 'payload')}, too young to be judged"),
        ],
    )
    if done.is_dry:
        say("Nothing was deleted.")


def _table(settings: "Settings") -> "StorageTable":
    if settings.storage is None:
        raise SettingsError(_NONE)
    return settings.storage


def _driver(settings: "Settings", table: "StorageTable") -> LocalStorageDriver:
    return LocalStorageDriver(storage_folder(settings), max_bytes=table.max_bytes)
