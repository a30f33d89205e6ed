"""What `perdure storage` does and prints."""

from datetime import timedelta
from typing import TYPE_CHECKING

from perdure.cli._context import Project, open_client, resolve, run_async, say
from perdure.cli._format import plural, size
from perdure.cli._render import console, print_json, print_pairs
from perdure.errors import SettingsError
from perdure.storage.collecting import Collected, StorageStatus, collect, measure
from perdure.storage.opening import local_driver, open_place

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
    return measure(local_driver(settings), table.threshold_bytes)


def collect_unused(older_than_minutes: float, *, is_dry: bool) -> Collected:
    """Delete what nothing refers to.

    Raises:
        SettingsError: There is no storage, or the time is too short for it. Not retryable.
        StorageError: Storage is away or refuses, or a reference can't be read. Not retryable.
    """
    settings = resolve().settings
    _table(settings)

    async def main() -> Collected:
        client = await open_client(Project(settings, None))
        place = await open_place(settings, client.temporal.namespace)
        return await collect(
            client.temporal, place, older_than=timedelta(minutes=older_than_minutes), is_dry=is_dry
        )

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
