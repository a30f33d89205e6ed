"""What is deleted, and what is spared."""

import os
import time
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from pathlib import Path

from temporalio.api.common.v1 import Payload
from temporalio.api.history.v1 import History, HistoryEvent
from temporalio.api.sdk.v1 import ExternalStorageReference
from temporalio.converter import JSONProtoPayloadConverter

from perdure.storage.collecting import Collected, collect, measure, sweep
from perdure.storage.local import GOING, TEMPORARY, LocalPlace, LocalStorageDriver, _delete
from perdure.storage.marking import Marks, payloads
from perdure.storage.place import Stored
from tests.fakes.retained import Retained
from tests.unit.storage.test_local import driver, payload, put

DAY = timedelta(days=1)


async def make(folder: Path, *names: str, namespace: str = "default") -> dict[str, str]:
    """Store payloads two hours ago, and return their digests."""
    found: dict[str, str] = {}
    for name in names:
        claim = await put(folder, payload(name), namespace)
        found[name] = claim.claim_data["digest"]
        age(driver(folder).path(namespace, found[name]))
    return found


async def swept(folder: Path, marks: Marks, *, is_dry: bool = False) -> Collected:
    place = LocalPlace(driver(folder), "default")
    return await sweep(place, marks, before=time.time() - 3600, is_dry=is_dry)


def age(file: Path) -> None:
    then = time.time() - 7200
    os.utime(file, (then, then))


def left(folder: Path) -> set[str]:
    return {file.name for file in LocalStorageDriver(folder / "payloads", max_bytes=1).all_files()}


async def test_what_nothing_refers_to_goes(tmp_path: Path) -> None:
    digests = await make(tmp_path, "alive", "dead", "young")
    os.utime(driver(tmp_path).path("default", digests["young"]))
    marks = Marks({digests["alive"]}, runs=3)
    dry = await swept(tmp_path, marks, is_dry=True)
    assert left(tmp_path) == set(digests.values())
    done = await swept(tmp_path, marks)
    assert done == dry.model_copy(update={"is_dry": False})
    assert (done.kept, done.young, done.deleted, done.runs) == (1, 1, 1, 3)
    assert done.deleted_bytes > 0
    assert left(tmp_path) == {digests["alive"], digests["young"]}


async def test_other_namespaces_are_left_alone(tmp_path: Path) -> None:
    digests = await make(tmp_path, "other", namespace="other")
    await swept(tmp_path, Marks())
    assert left(tmp_path) == set(digests.values())


async def test_half_written_files_go_when_their_writer_must_be_dead(tmp_path: Path) -> None:
    digests = await make(tmp_path, "x")
    file = driver(tmp_path).path("default", digests["x"]).with_name(f"tmp{TEMPORARY}")
    file.write_bytes(b"half")
    assert measure(driver(tmp_path), 1).leftovers == 1
    await swept(tmp_path, Marks({digests["x"]}))
    assert file.exists(), "its writer may be at it"
    age(file)
    await swept(tmp_path, Marks({digests["x"]}))
    assert left(tmp_path) == {digests["x"]}


async def test_a_file_that_is_written_again_meanwhile_stays(tmp_path: Path) -> None:
    digests = await make(tmp_path, "x")
    file = driver(tmp_path).path("default", digests["x"])
    limit = time.time() - 3600
    await put(tmp_path, payload("x"))  # after it was found to be old, before it is deleted
    assert not _delete(file, limit)
    assert file.exists()


async def test_a_collector_that_died_in_the_middle_loses_nothing(tmp_path: Path) -> None:
    digests = await make(tmp_path, "alive", "dead")
    for digest in digests.values():
        file = driver(tmp_path).path("default", digest)
        file.rename(file.with_name(file.name + GOING))
    await swept(tmp_path, Marks({digests["alive"]}))
    assert left(tmp_path) == {digests["alive"]}


def test_references_are_found_wherever_they_are() -> None:
    reference = JSONProtoPayloadConverter().to_payload(ExternalStorageReference(driver_name="d"))
    assert reference is not None
    event = HistoryEvent()
    event.activity_task_scheduled_event_attributes.input.payloads.append(reference)
    marker = HistoryEvent()
    marker.marker_recorded_event_attributes.details["result"].payloads.append(reference)
    marker.marker_recorded_event_attributes.details["data"].payloads.append(Payload(data=b"x"))
    started = HistoryEvent()
    started.workflow_execution_started_event_attributes.memo.fields["m"].CopyFrom(reference)
    failed = HistoryEvent()
    failure = failed.activity_task_failed_event_attributes.failure.cause.application_failure_info
    failure.details.payloads.append(reference)
    found = list(payloads(History(events=[event, marker, started, failed])))
    assert [each for each in found if each == reference] == [reference] * 4


class Clocked:
    """One payload, and a clock that a test sets."""

    least_age = timedelta(0)

    def __init__(self) -> None:
        self.clock = 0.0
        self.stored = [Stored("x", 1, 0)]

    async def now(self) -> float:
        return self.clock

    async def pages(self) -> AsyncIterator[Sequence[Stored]]:
        yield self.stored

    async def keep(self, stored: Stored) -> None:
        raise AssertionError("nothing refers to it")

    async def delete(self, page: Sequence[Stored], before: float) -> AsyncIterator[Stored]:
        for stored in page:
            yield stored


async def test_what_is_written_while_runs_are_read_is_young_however_long_that_takes() -> None:
    """A run that was read already may refer to it."""
    place, retained = Clocked(), Retained(long=[])
    week = 7 * 86400.0

    def read() -> None:
        place.stored = [Stored("x", 1, week + 60)]
        place.clock = 2 * week

    retained.meanwhile = read
    place.clock = week
    done = await collect(retained.client(), place, older_than=DAY, is_dry=False)
    assert (done.young, done.deleted) == (1, 0)
