"""Temporal's drivers with our clients, over the stores' own protocols."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from temporalio.api.common.v1 import Payload
from temporalio.contrib.pydantic import pydantic_data_converter

from perdure.settings import Settings, StorageTable
from perdure.storage.opening import close_storage, external_storage, with_storage
from tests.fakes.object_stores import GCSServer, ObjectStore, S3Server

LARGE = "x" * 100_000


@pytest.fixture(params=["s3", "gcs"])
async def store(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ObjectStore]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "the-key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "the-secret")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    async with S3Server() if request.param == "s3" else GCSServer() as server:
        yield server
        await close_storage()


def settings(store: ObjectStore, bucket: str = "mine") -> Settings:
    driver = "s3" if isinstance(store, S3Server) else "gcs"
    region = "eu-central-1" if driver == "s3" else None
    table = StorageTable(driver=driver, bucket=bucket, endpoint_url=store.url, region=region)
    return Settings(storage=table, project_dir=Path("/nowhere"))


async def test_large_payloads_go_there_and_come_back(store: ObjectStore) -> None:
    converter = with_storage(pydantic_data_converter, external_storage(settings(store)))
    payloads = await converter.encode([LARGE, "small"])
    assert payloads[0].ByteSize() < 1000
    assert payloads[1].data == b'"small"'
    [name] = store.objects
    assert Payload.FromString(store.objects[name]).data.decode() == f'"{LARGE}"'
    assert await converter.decode(payloads) == [LARGE, "small"]
    await converter.encode([LARGE])
    assert len(store.objects) == 1


async def test_what_is_gone_is_an_error(store: ObjectStore) -> None:
    converter = with_storage(pydantic_data_converter, external_storage(settings(store)))
    payloads = await converter.encode([LARGE])
    store.objects.clear()
    with pytest.raises(RuntimeError, match="retrieve failed"):
        await converter.decode(payloads)


def test_a_converter_with_storage_of_its_own_keeps_it(store: ObjectStore) -> None:
    own = with_storage(pydantic_data_converter, external_storage(settings(store)))
    assert with_storage(own, external_storage(settings(store))).external_storage is own.external_storage
    assert with_storage(pydantic_data_converter, None) is pydantic_data_converter
