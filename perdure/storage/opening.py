"""External storage as it is configured, and data converters that use it. Client and worker side."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from temporalio.client import Interceptor
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.converter import DataConverter, ExternalStorage, StorageDriver

from perdure.encryption import DecodedHistory, encryption_codec, with_encryption
from perdure.settings import Settings, StorageTable
from perdure.storage.local import LocalStorageDriver

_OPENED: list[Any] = []
"""Clients of object stores, which are to be closed in their event loop."""


def external_storage(settings: Settings) -> ExternalStorage | None:
    """Return the external storage of a project; None where none is configured.

    Raises:
        SettingsError: It needs an extra that isn't installed. Not retryable.
    """
    table = settings.storage
    if table is None:
        return None
    return ExternalStorage(drivers=[_driver(table, settings)], payload_size_threshold=table.threshold_bytes)


def data_converter(settings: Settings) -> DataConverter:
    """Return the data converter of a project, for its clients and workers alike.

    Raises:
        SettingsError: It needs an extra that isn't installed. Not retryable.
    """
    converter = with_encryption(pydantic_data_converter, encryption_codec(settings))
    return with_storage(converter, external_storage(settings))


def decoding(converter: DataConverter) -> list[Interceptor]:
    """Return the interceptors of a client that reads histories: they decode the texts of failures."""
    return [] if converter.payload_codec is None else [DecodedHistory(converter)]


def storage_folder(settings: Settings) -> Path:
    """Return where the local driver keeps payloads."""
    path = None if settings.storage is None else settings.storage.path
    return settings.project_dir / (path or settings.state_dir / "payloads")


def with_storage(converter: DataConverter, storage: ExternalStorage | None) -> DataConverter:
    """Return a converter that uses external storage; one that has its own keeps it."""
    if storage is None or converter.external_storage is not None:
        return converter
    return replace(converter, external_storage=storage)


async def close_storage() -> None:
    """Close the connections to object stores of this process."""
    while _OPENED:
        await _OPENED.pop().aclose()


def _driver(table: StorageTable, settings: Settings) -> StorageDriver:
    if table.driver == "local":
        return LocalStorageDriver(storage_folder(settings), max_bytes=table.max_bytes)
    from perdure.storage.remote import GCSClient, S3Client, check_extra

    check_extra(table.driver)
    assert table.bucket is not None, "the settings have been checked"
    if table.driver == "s3":
        from temporalio.contrib.aws.s3driver import S3StorageDriver

        s3 = S3Client(endpoint_url=table.endpoint_url, region=table.region)
        _OPENED.append(s3)
        return S3StorageDriver(client=s3, bucket=table.bucket, max_payload_size=table.max_bytes)
    from temporalio.contrib.gcp.gcsdriver import GCSStorageDriver

    gcs = GCSClient(api_root=table.endpoint_url)
    _OPENED.append(gcs)
    return GCSStorageDriver(client=gcs, bucket=table.bucket, max_payload_size=table.max_bytes)
