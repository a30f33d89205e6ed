"""Temporal's drivers with our clients, over the stores' own protocols."""

import pytest
from temporalio.api.common.v1 import Payload
from temporalio.contrib.pydantic import pydantic_data_converter

from perdure.storage.opening import external_storage, with_storage
from tests.fakes.object_stores import ObjectStore

LARGE = "x" * 100_000


async def test_large_payloads_go_there_and_come_back(store: ObjectStore) -> None:
    converter = with_storage(pydantic_data_converter, external_storage(store.settings()))
    payloads = await converter.encode([LARGE, "small"])
    assert payloads[0].ByteSize() < 1000
    assert payloads[1].data == b'"small"'
    [name] = store.objects
    assert Payload.FromString(store.objects[name]).data.decode() == f'"{LARGE}"'
    assert await converter.decode(payloads) == [LARGE, "small"]
    await converter.encode([LARGE])
    assert len(store.objects) == 1


async def test_what_is_gone_is_an_error(store: ObjectStore) -> None:
    converter = with_storage(pydantic_data_converter, external_storage(store.settings()))
    payloads = await converter.encode([LARGE])
    store.objects.clear()
    with pytest.raises(RuntimeError, match="retrieve failed"):
        await converter.decode(payloads)


def test_a_converter_with_storage_of_its_own_keeps_it(store: ObjectStore) -> None:
    own = with_storage(pydantic_data_converter, external_storage(store.settings()))
    assert with_storage(own, external_storage(store.settings())).external_storage is own.external_storage
    assert with_storage(pydantic_data_converter, None) is pydantic_data_converter
