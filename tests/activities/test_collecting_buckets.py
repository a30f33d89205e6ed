"""Collections of buckets, over the stores' own protocols: what goes, what stays, and who may come in between."""

import asyncio
import base64
from datetime import timedelta
from typing import Any

import pytest
from temporalio.api.common.v1 import Payload
from temporalio.converter import (
    DataConverter,
    StorageDriverActivityInfo,
    StorageDriverStoreContext,
    StorageDriverWorkflowInfo,
)
from temporalio.service import RPCError, RPCStatusCode

from perdure.errors import SettingsError, StorageError
from perdure.settings import EncryptionTable
from perdure.storage.collecting import Collected, collect
from perdure.storage.opening import data_converter, open_place
from perdure.storage.remote import LEAST_AGE, RENEW_SECONDS
from perdure.storage.s3 import WORD, WORD_SECONDS
from tests.fakes.object_stores import DENIED, ObjectStore, Refusal, S3Server
from tests.fakes.retained import Retained

HOUR = timedelta(hours=1)
OLD = 2 * 3600
DIGEST = "d/sha256/" + "0" * 64
RUN = StorageDriverWorkflowInfo(namespace="default", id="w", type="W", run_id="r")
WORD_NAME = f"v0/ns/default/{WORD}"


def converter(store: ObjectStore, target: Any = RUN) -> DataConverter:
    return store.converter._with_store_context(StorageDriverStoreContext(target=target))  # pyright: ignore


async def put(store: ObjectStore, text: str, target: Any = RUN, *, seconds: float = OLD) -> tuple[Payload, str]:
    """Store a payload so long ago, and return its reference and name."""
    before = set(store.objects)
    [reference] = await converter(store, target).encode([text * 50_000])
    [name] = set(store.objects) - before
    store.age(name, seconds)
    return reference, name


async def gc(
    store: ObjectStore, retained: Retained | None = None, *, bucket: str = "mine", is_dry: bool = False
) -> Collected:
    place = await open_place(store.settings(bucket), "default")
    client = (retained or Retained()).client()
    return await collect(client, place, older_than=HOUR, is_dry=is_dry)


def deletions(store: ObjectStore) -> list[str]:
    return [name for kind, name in store.asked if kind.startswith("delete") and not name.endswith(WORD)]


async def test_what_nothing_refers_to_goes(store: ObjectStore) -> None:
    alive, kept = await put(store, "a")
    _, dead = await put(store, "b")
    activity = StorageDriverActivityInfo(namespace="default", id="a", type="A", run_id="r")
    _, also_dead = await put(store, "c", activity)
    _, young = await put(store, "d", seconds=1800)
    store.page_size = 2
    store.asked.clear()
    dry = await gc(store, Retained(run=[alive]), is_dry=True)
    assert set(store.objects) == {kept, dead, also_dead, young}
    assert {kind for kind, _ in store.asked} == {"list"}
    done = await gc(store, Retained(run=[alive]))
    assert done == dry.model_copy(update={"is_dry": False})
    assert (done.runs, done.kept, done.young, done.deleted) == (1, 1, 1, 2)
    assert done.deleted_bytes > 100_000
    assert set(store.objects) == {kept, young}
    assert (await gc(store, Retained(run=[alive]))).deleted == 0


async def test_every_kind_of_reference_counts(store: ObjectStore) -> None:
    references = {letter: (await put(store, letter))[0] for letter in "abcde"}
    _, dead = await put(store, "f")
    retained = Retained(closed=[references["a"]], open=[])
    retained.pending["open"] = references["b"]  # a heartbeat is in no history
    retained.schedules["s"] = references["c"]
    retained.activities["a"] = references["d"]
    nested = b"\x12\x07" + references["e"].SerializeToString() + b"\x12"
    retained.hidden["temporal-sys-scheduler:s"] = [Payload(data=nested)]  # the last result
    done = await gc(store, retained)
    assert (done.kept, done.deleted) == (5, 1)
    assert dead not in store.objects


FOREIGN = [
    f"v0/ns/other/wt/W/wi/w/ri/r/{DIGEST}",
    f"v0/ns/default2/wt/W/wi/w/ri/r/{DIGEST}",
    f"v0/{DIGEST}",
    f"v1/ns/default/{DIGEST}",
    f"v0/ns/default/wt/W/wi/w/{DIGEST}",
    f"v0/ns/default/wt/W/wi/w/ri/r/more/{DIGEST}",
    f"v0/ns/default/{DIGEST}0",
    f"v0/ns/default/{DIGEST.upper()}",
    f"v0/ns/default/wt/W/ai/w/ri/r/{DIGEST}",
    "v0/ns/default/notes.txt",
    "readme",
]


async def test_names_that_are_not_the_drivers_are_left_alone(store: ObjectStore) -> None:
    for name in FOREIGN:
        store.write(name, b"x")
        store.age(name, OLD)
    long_name = StorageDriverWorkflowInfo(namespace="default", id="w" * 1100, type="W")
    await put(store, "long", long_name)
    assert (await gc(store)).deleted == 1, "the driver's name for what would be too long"
    assert set(store.objects) == set(FOREIGN)
    assert set(deletions(store)).isdisjoint(FOREIGN)


@pytest.mark.parametrize("namespace", ["b/c", "ü", "b~", "100%", ".."])
async def test_namespaces_are_kept_apart(store: ObjectStore, namespace: str) -> None:
    _, name = await put(store, "x", StorageDriverWorkflowInfo(namespace=namespace, id="w"))
    assert (await gc(store)).deleted == 0
    place = await open_place(store.settings(), namespace)
    done = await collect(Retained().client(namespace), place, older_than=HOUR, is_dry=False)
    assert done.deleted == 1
    assert name not in store.objects


async def test_whatever_can_not_be_read_deletes_nothing(store: ObjectStore) -> None:
    reference, _ = await put(store, "a")
    await put(store, "b")
    before = dict(store.objects)
    retained = Retained(first=[reference], second=[reference], third=[reference])
    retained.failing["second"] = RPCStatusCode.UNAVAILABLE
    with pytest.raises(RPCError, match="no more"):
        await gc(store, retained)
    reference.data = b"{"
    with pytest.raises(StorageError, match=r"can't be read: .* Nothing was deleted\."):
        await gc(store, Retained(first=[], second=[reference]))
    reference.data = reference.data.replace(b"{", b'{"driverName": "aws.s3driver"}')
    with pytest.raises(StorageError, match=r"can't be read: KeyError: 'key'\. Nothing was deleted\."):
        await gc(store, Retained(first=[reference]))
    reference.external_payloads.pop()
    reference.metadata["encoding"] = b"json/external-storage-reference"
    with pytest.raises(StorageError, match=r"can't be read"):
        await gc(store, Retained(first=[reference]))
    assert store.objects == before
    assert not deletions(store)


async def test_a_run_whose_time_of_retention_ended_meanwhile_holds_nothing(store: ObjectStore) -> None:
    reference, _ = await put(store, "a")
    retained = Retained(gone=[reference])
    retained.failing["gone"] = RPCStatusCode.NOT_FOUND
    assert (await gc(store, retained)).deleted == 1


async def test_references_to_what_is_encrypted_count(store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THE_KEY", base64.b64encode(b"k" * 32).decode())
    settings = store.settings().model_copy(update={"encryption": EncryptionTable(key_env="THE_KEY")})
    made = data_converter(settings)._with_store_context(StorageDriverStoreContext(target=RUN))  # pyright: ignore
    [reference] = await made.encode(["x" * 50_000])
    [name] = store.objects
    store.age(name, OLD)
    assert (await gc(store, Retained(run=[reference]))).kept == 1
    assert (await gc(store)).deleted == 1


async def test_what_is_stored_again_is_young_again(store: ObjectStore) -> None:
    """Temporal's drivers leave alone what is there: a reference to it may be newer than what a sweep knows."""
    _, name = await put(store, "a", seconds=RENEW_SECONDS + 60)
    written = store.modified[name]
    await converter(store).encode(["a" * 50_000])
    assert store.modified[name] > written + RENEW_SECONDS
    assert [kind for kind, _ in store.asked].count("put") == 1, "its bytes aren't sent again"
    store.age(name, RENEW_SECONDS - 60)
    await converter(store).encode(["a" * 50_000])
    assert [kind for kind, _ in store.asked].count("renew") == 1
    assert timedelta(seconds=2 * RENEW_SECONDS) < LEAST_AGE


async def test_what_is_deleted_before_it_is_renewed_is_stored_anew(store: ObjectStore) -> None:
    _, name = await put(store, "a")
    store.meanwhile["renew"] = lambda: store.remove(name)
    [reference] = await converter(store).encode(["a" * 50_000])
    assert name in store.objects
    assert await converter(store).decode([reference]) == ["a" * 50_000]


async def test_what_is_renewed_after_it_was_listed_stays(store: ObjectStore) -> None:
    _, name = await put(store, "a")
    _, dead = await put(store, "b")
    # S3: after the word is out. GCS: just before the deletion, which has conditions.
    store.meanwhile["put" if isinstance(store, S3Server) else "delete"] = lambda: store.age(name, -OLD)
    assert (await gc(store)).deleted == 1
    assert set(store.objects) == {name}
    assert dead not in store.objects


@pytest.mark.parametrize("store", ["s3"], indirect=True)
async def test_a_writer_waits_while_objects_are_deleted(store: ObjectStore) -> None:
    _, name = await put(store, "a")
    store.write(WORD_NAME, b"")
    writing = asyncio.create_task(converter(store).encode(["a" * 50_000]))
    while ("renew", name) not in store.asked:
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.3)
    assert not writing.done()
    store.remove(name)  # it was found to be old before it was renewed
    [reference] = await writing
    assert await converter(store).decode([reference]) == ["a" * 50_000]


@pytest.mark.parametrize("store", ["s3"], indirect=True)
async def test_a_writer_trusts_no_renewal_that_may_have_come_too_late(store: ObjectStore) -> None:
    _, name = await put(store, "a", seconds=1)
    store.write(WORD_NAME, b"")
    writing = asyncio.create_task(converter(store).encode(["a" * 50_000]))
    await asyncio.sleep(0.5)
    assert not writing.done()
    store.age(WORD_NAME, WORD_SECONDS)  # who put it there died
    await writing
    assert ("renew", name) not in store.asked


@pytest.mark.parametrize("store", ["s3"], indirect=True)
async def test_two_collections_do_not_meet(store: ObjectStore) -> None:
    await put(store, "a")
    store.write(WORD_NAME, b"")
    with pytest.raises(StorageError, match=r"Another collection is at work .* Deleted by then: 0;"):
        await gc(store)
    assert len(store.objects) == 2
    store.age(WORD_NAME, WORD_SECONDS)
    assert (await gc(store)).deleted == 1
    assert not store.objects, "its word is gone with it"


async def test_a_bucket_that_can_not_be_listed(store: ObjectStore) -> None:
    await put(store, "a")
    with pytest.raises(StorageError, match=r"'other' can't be listed: .*bucket"):
        await gc(store, bucket="other")
    store.refused["list"] = DENIED
    with pytest.raises(StorageError, match=r"'mine' can't be listed: .*You may not") as caught:
        await gc(store)
    assert "\n" not in caught.value.message
    assert len(store.objects) == 1


async def test_a_listing_that_ends_in_the_middle(store: ObjectStore) -> None:
    for letter in "abc":
        await put(store, letter)
    store.page_size = 1
    place = await open_place(store.settings(), "default")
    pages = place.pages()
    await anext(pages)
    store.refused["list"] = Refusal(500, "InternalError", "Something broke")
    with pytest.raises(StorageError, match=r"can't be listed: .*Something broke"):
        await anext(pages)


async def test_objects_that_can_not_be_deleted(store: ObjectStore) -> None:
    for letter in "abc":
        await put(store, letter)
    kind = "delete-key" if isinstance(store, S3Server) else "delete"
    store.refused[kind] = DENIED
    with pytest.raises(StorageError, match=r"You may not\. Deleted by then: 0;"):
        await gc(store)
    store.refused.clear()
    store.page_size = 1
    refuse = lambda: store.refused.update({kind: DENIED})  # noqa: E731
    store.meanwhile[kind] = lambda: store.meanwhile.update({kind: refuse})
    with pytest.raises(StorageError, match=r"You may not\. Deleted by then: 1; another collection goes on"):
        await gc(store)
    assert len(store.objects) == 2
    assert WORD_NAME not in store.objects


@pytest.mark.parametrize("store", ["s3"], indirect=True)
async def test_a_collector_that_may_not_write_deletes_nothing(store: ObjectStore) -> None:
    await put(store, "a")
    for kind in ("put", "delete"):
        store.refused = {kind: DENIED}
        with pytest.raises(StorageError, match=r"'mine' can't be swept: .*You may not\. Deleted by then: 0;"):
            await gc(store)
    store.remove(WORD_NAME)
    assert len(store.objects) == 1


@pytest.mark.parametrize("store", ["s3"], indirect=True)
async def test_a_deletion_without_an_answer_is_not_repeated_and_writers_wait(store: ObjectStore) -> None:
    await put(store, "a")
    store.refused["delete-all"] = Refusal(0, "", "")
    with pytest.raises(StorageError, match=r"'mine' can't be swept: .* Deleted by then: 0;"):
        await gc(store)
    assert [kind for kind, _ in store.asked].count("delete-all") == 1
    assert WORD_NAME in store.objects


@pytest.mark.parametrize("store", ["gcs"], indirect=True)
async def test_a_writer_that_may_not_renew_says_what_it_needs(store: ObjectStore) -> None:
    await put(store, "a")
    store.refused["renew"] = Refusal(403, "forbidden", "no storage.objects.update access")
    with pytest.raises(RuntimeError, match="store failed") as caught:
        await converter(store).encode(["a" * 50_000])
    assert "403: no storage.objects.update access. Workers and clients need the role" in str(
        caught.value.__cause__
    )


async def test_a_store_that_is_away(store: ObjectStore, unused_tcp_port: int) -> None:
    settings = store.settings()
    assert settings.storage is not None
    table = settings.storage.model_copy(update={"endpoint_url": f"http://127.0.0.1:{unused_tcp_port}"})
    place = await open_place(settings.model_copy(update={"storage": table}), "default")
    with pytest.raises(StorageError, match=r"'mine' can't be listed: .*connect"):
        await collect(Retained().client(), place, older_than=HOUR, is_dry=False)


async def test_what_is_in_use_may_be_an_hour_old(store: ObjectStore) -> None:
    place = await open_place(store.settings(), "default")
    with pytest.raises(SettingsError, match="--older-than has to be 60 or more for a bucket"):
        await collect(Retained().client(), place, older_than=timedelta(minutes=59), is_dry=False)
