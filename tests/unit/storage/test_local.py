"""Payloads in a folder: whole or not at all, checked when read, the same bytes once."""

import asyncio
import os
from pathlib import Path

import pytest
from temporalio.api.common.v1 import Payload
from temporalio.converter import (
    StorageDriverClaim,
    StorageDriverRetrieveContext,
    StorageDriverStoreContext,
    StorageDriverWorkflowInfo,
)

from perdure.errors import StorageError
from perdure.storage.local import LocalStorageDriver

RETRIEVE = StorageDriverRetrieveContext()


def store_context(namespace: str = "default") -> StorageDriverStoreContext:
    return StorageDriverStoreContext(target=StorageDriverWorkflowInfo(namespace=namespace, id="w"))


def payload(text: str = "x" * 50_000) -> Payload:
    return Payload(metadata={"encoding": b"json/plain", "other": b"1"}, data=text.encode())


def driver(folder: Path) -> LocalStorageDriver:
    return LocalStorageDriver(folder / "payloads", max_bytes=2_000_000)


async def put(folder: Path, given: Payload | None = None, namespace: str = "default") -> StorageDriverClaim:
    return (await driver(folder).store(store_context(namespace), [given or payload()]))[0]


async def test_what_is_stored_is_read_back(tmp_path: Path) -> None:
    given = [payload("a" * 40_000), payload("b" * 40_000)]
    claims = await driver(tmp_path).store(store_context(), given)
    assert await driver(tmp_path).retrieve(RETRIEVE, claims) == given


async def test_the_same_bytes_are_stored_once_by_many_at_once(tmp_path: Path) -> None:
    claims = await asyncio.gather(*(put(tmp_path) for _ in range(50)))
    assert len({claim.claim_data["digest"] for claim in claims}) == 1
    assert len(list(driver(tmp_path).all_files())) == 1
    assert await driver(tmp_path).retrieve(RETRIEVE, claims[:1]) == [payload()]


async def test_namespaces_are_kept_apart(tmp_path: Path) -> None:
    for namespace in ("a", "b", "../c", "..", ""):
        claim = await put(tmp_path, namespace=namespace)
        assert await driver(tmp_path).retrieve(RETRIEVE, [claim]) == [payload()]
    assert len(list(driver(tmp_path).files("a"))) == 1
    inside = [Path(folder, name) for folder, _, names in os.walk(tmp_path) for name in names]
    assert len(inside) == 5
    assert all(path.is_relative_to(tmp_path / "payloads") for path in inside)


@pytest.mark.parametrize("digest", ["", "../../etc/passwd", "A" * 64, "0" * 63, "0" * 64 + "/x"])
async def test_a_claim_leads_nowhere_else(tmp_path: Path, digest: str) -> None:
    with pytest.raises(StorageError, match="no digest"):
        await driver(tmp_path).retrieve(RETRIEVE, [StorageDriverClaim(claim_data={"digest": digest})])


async def test_what_is_gone_may_come_back(tmp_path: Path) -> None:
    claim = await put(tmp_path)
    next(driver(tmp_path).all_files()).unlink()
    with pytest.raises(StorageError, match="need the same folder") as caught:
        await driver(tmp_path).retrieve(RETRIEVE, [claim])
    assert not caught.value.non_retryable


@pytest.mark.parametrize("damage", [b"", b"x", b"y" * 50_040])
async def test_damage_is_found(tmp_path: Path, damage: bytes) -> None:
    claim = await put(tmp_path)
    next(driver(tmp_path).all_files()).write_bytes(damage)
    with pytest.raises(StorageError, match="is damaged"):
        await driver(tmp_path).retrieve(RETRIEVE, [claim])


async def test_half_a_file_is_written_anew(tmp_path: Path) -> None:
    claim = await put(tmp_path)
    next(driver(tmp_path).all_files()).write_bytes(b"half")
    assert await put(tmp_path) == claim
    assert await driver(tmp_path).retrieve(RETRIEVE, [claim]) == [payload()]


async def test_storing_again_makes_young_again(tmp_path: Path) -> None:
    await put(tmp_path)
    file = next(driver(tmp_path).all_files())
    os.utime(file, (1, 1))
    await put(tmp_path)
    assert file.stat().st_mtime > 1000


async def test_a_payload_that_is_too_large_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="more than 2000000") as caught:
        await put(tmp_path, payload("x" * 2_000_000))
    assert caught.value.non_retryable
    assert not list(driver(tmp_path).all_files())


async def test_a_disk_that_takes_nothing_is_told(tmp_path: Path) -> None:
    (tmp_path / "payloads").write_text("a file, where a folder should be")
    with pytest.raises(StorageError, match="can't be stored in"):
        await put(tmp_path)
