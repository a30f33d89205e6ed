"""External storage as it is configured, and data converters that use it. Client and worker side."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from temporalio.client import Interceptor
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.converter import DataConverter, ExternalStorage, StorageDriver

from perdure.encryption import DecodedHistory, encryption_codec, with_encryption
from perdure.settings import Settings, StorageTable
from perdure.storage.local import LocalPlace, LocalStorageDriver
from perdure.storage.place import Place

if TYPE_CHECKING:
    from perdure.storage.gcs import GCSClient
    from perdure.storage.s3 import S3Client

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


async def open_place(settings: Settings, namespace: str) -> Place:
    """Return what a collection sees of the payloads of a namespace; storage is configured.

    Raises:
        SettingsError: It needs an extra that isn't installed. Not retryable.
        StorageError: This version of the SDK names objects in a way that isn't known here. Not retryable.
    """
    table = settings.storage
    assert table is not None, "there is something to collect"
    if table.driver == "local":
        return LocalPlace(local_driver(settings), namespace)
    from perdure.storage.remote import Nowhere, names_of

    assert table.bucket is not None, "the settings have been checked"
    nowhere: Any = Nowhere()
    if table.driver == "s3":
        from temporalio.contrib.aws.s3driver import S3StorageDriver

        from perdure.storage.s3 import S3Place

        names = await names_of(S3StorageDriver(client=nowhere, bucket=table.bucket), namespace)
        return S3Place(_s3_client(table), table.bucket, names)
    from temporalio.contrib.gcp.gcsdriver import GCSStorageDriver

    from perdure.storage.gcs import GCSPlace

    names = await names_of(GCSStorageDriver(client=nowhere, bucket=table.bucket), namespace)
    return GCSPlace(_gcs_client(table), table.bucket, names)


def local_driver(settings: Settings) -> LocalStorageDriver:
    """Return the driver of the folder that is configured."""
    assert settings.storage is not None, "storage is configured"
    return LocalStorageDriver(storage_folder(settings), max_bytes=settings.storage.max_bytes)


def _driver(table: StorageTable, settings: Settings) -> StorageDriver:
    if table.driver == "local":
        return local_driver(settings)
    assert table.bucket is not None, "the settings have been checked"
    if table.driver == "s3":
        from temporalio.contrib.aws.s3driver import S3StorageDriver

        return S3StorageDriver(client=_s3_client(table), bucket=table.bucket, max_payload_size=table.max_bytes)
    from temporalio.contrib.gcp.gcsdriver import GCSStorageDriver

    return GCSStorageDriver(client=_gcs_client(table), bucket=table.bucket, max_payload_size=table.max_bytes)


def _s3_client(table: StorageTable) -> "S3Client":
    from perdure.storage.remote import check_extra
    from perdure.storage.s3 import S3Client

    check_extra("s3")
    client = S3Client(endpoint_url=table.endpoint_url, region=table.region)
    _OPENED.append(client)
    return client


def _gcs_client(table: StorageTable) -> "GCSClient":
    from perdure.storage.gcs import GCSClient
    from perdure.storage.remote import check_extra

    check_extra("gcs")
    client = GCSClient(api_root=table.endpoint_url)
    _OPENED.append(client)
    return client
