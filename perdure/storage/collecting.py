"""What is in storage, and what of it no run refers to any more. Client side; needs no worker.

Marks, then sweeps. Marking reads the history of every run that the server still has, open or closed, the schedules
and the standalone activities: a payload is alive while one of them refers to it. Whatever can't be read ends the
collection before anything is deleted. Sweeping spares what is young: a payload is written before the event that
refers to it, and writing it again makes it young again.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from google.protobuf.message import Message as ProtoMessage
from pydantic import BaseModel, ConfigDict
from temporalio.api.common.v1 import Payload
from temporalio.api.common.v1 import WorkflowExecution as Execution
from temporalio.api.sdk.v1 import ExternalStorageReference
from temporalio.api.workflowservice.v1 import (
    DescribeActivityExecutionRequest,
    DescribeScheduleRequest,
    GetWorkflowExecutionHistoryRequest,
    ListActivityExecutionsRequest,
    ListSchedulesRequest,
    ListWorkflowExecutionsRequest,
)
from temporalio.client import Client
from temporalio.converter import JSONProtoPayloadConverter
from temporalio.service import RPCError, RPCStatusCode

from perdure.errors import StorageError
from perdure.storage.local import GOING, NAME, TEMPORARY, LocalStorageDriver

_AT_ONCE = 8
_PAGE = 500
_GONE = (RPCStatusCode.NOT_FOUND,)
_UNKNOWN = (RPCStatusCode.UNIMPLEMENTED, RPCStatusCode.INVALID_ARGUMENT, RPCStatusCode.FAILED_PRECONDITION)


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


@dataclass
class Marks:
    """The digests that something refers to.

    Attributes:
        digests: As hexadecimal digits.
        runs: How many runs were read.
    """

    digests: set[str] = field(default_factory=set[str])
    runs: int = 0


async def mark(client: Client) -> Marks:
    """Return what the runs, schedules and standalone activities of the namespace refer to.

    Raises:
        StorageError: A reference can't be read, so that nobody knows what is alive. Not retryable.
        RPCError: Temporal's.
    """
    marks = Marks()
    gate = asyncio.Semaphore(_AT_ONCE)

    async def read(sources: AsyncIterator[AsyncIterator[ProtoMessage]]) -> None:
        tasks: set[asyncio.Task[None]] = set()
        async for source in sources:
            await gate.acquire()
            task = asyncio.create_task(_take(marks, source))
            tasks.add(task)
            task.add_done_callback(lambda _: gate.release())
            for done in [each for each in tasks if each.done()]:
                tasks.discard(done)
                done.result()
        await asyncio.gather(*tasks)

    for sources in (_runs(client, marks), _schedules(client), _activities(client)):
        await read(sources)
    return marks


def sweep(
    driver: LocalStorageDriver, namespace: str, marks: Marks, *, older_than: timedelta, is_dry: bool
) -> Collected:
    """Delete what nothing refers to and is not young.

    Args:
        driver: The payloads.
        namespace: Whose payloads; those of others stay.
        marks: What something refers to.
        older_than: How long nothing was written to what is deleted.
        is_dry: Delete nothing, and say what would be.
    """
    limit = time.time() - older_than.total_seconds()
    kept = young = deleted = size = 0
    for file in (*driver.files(namespace), *driver.leftovers(namespace)):
        with suppress(FileNotFoundError):
            stat = file.stat()
            if file.name.removesuffix(GOING) in marks.digests:
                kept += 1
                _restore(file)
            elif stat.st_mtime > limit:
                young += 1
            elif is_dry or _delete(file, limit):
                deleted += 1
                size += stat.st_size
    return Collected(runs=marks.runs, kept=kept, young=young, deleted=deleted, deleted_bytes=size, is_dry=is_dry)


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


def _delete(file: Path, limit: float) -> bool:
    """Delete a file unless somebody wrote it again meanwhile.

    It is renamed first: from then on a writer finds nothing to renew, and writes it anew.
    """
    going = file if file.name.endswith(GOING) else file.with_name(file.name + GOING)
    file.rename(going)
    if going.stat().st_mtime > limit:
        _restore(going)
        return False
    going.unlink()
    return True


def _restore(file: Path) -> None:
    if file.name.endswith(GOING):
        file.rename(file.with_name(file.name.removesuffix(GOING)))


async def _take(marks: Marks, source: AsyncIterator[ProtoMessage]) -> None:
    proto = JSONProtoPayloadConverter()
    async for message in source:
        for payload in _payloads(message):
            if payload.external_payloads:
                marks.digests.add(_digest(proto, payload))


def _digest(proto: JSONProtoPayloadConverter, payload: Payload) -> str:
    """Return what a reference refers to; empty where it isn't ours."""
    try:
        found: Any = proto.from_payload(payload, ExternalStorageReference)
    except Exception as error:
        raise StorageError(
            f"A reference to a stored payload can't be read: {error}. Nothing was deleted."
        ) from None
    return str(found.claim_data.get("digest", "")) if found.driver_name == NAME else ""


def _payloads(message: ProtoMessage) -> Iterator[Payload]:
    """Yield every payload within a message of the protocol."""
    if isinstance(message, Payload):
        yield message
        return
    for descriptor, value in message.ListFields():
        if descriptor.message_type is None:
            continue
        if isinstance(value, ProtoMessage):
            yield from _payloads(value)
        elif descriptor.message_type.GetOptions().map_entry:
            for each in value.values():
                if isinstance(each, ProtoMessage):
                    yield from _payloads(each)
        else:
            for each in value:
                yield from _payloads(each)


async def _runs(client: Client, marks: Marks) -> AsyncIterator[AsyncIterator[ProtoMessage]]:
    token = b""
    while True:
        page = await client.workflow_service.list_workflow_executions(
            ListWorkflowExecutionsRequest(namespace=client.namespace, page_size=_PAGE, next_page_token=token)
        )
        for info in page.executions:
            marks.runs += 1
            yield _history(client, info)
        token = page.next_page_token
        if not token:
            return


async def _history(client: Client, info: Any) -> AsyncIterator[ProtoMessage]:
    yield info
    token = b""
    while True:
        request = GetWorkflowExecutionHistoryRequest(
            namespace=client.namespace,
            execution=Execution(workflow_id=info.execution.workflow_id, run_id=info.execution.run_id),
            next_page_token=token,
        )
        try:
            page = await client.workflow_service.get_workflow_execution_history(request)
        except RPCError as error:
            if error.status in _GONE:
                return  # its time of retention ended just now
            raise
        yield page.history
        token = page.next_page_token
        if not token:
            return


async def _schedules(client: Client) -> AsyncIterator[AsyncIterator[ProtoMessage]]:
    token = b""
    while True:
        page = await client.workflow_service.list_schedules(
            ListSchedulesRequest(namespace=client.namespace, maximum_page_size=_PAGE, next_page_token=token)
        )
        for entry in page.schedules:
            yield _schedule(client, entry.schedule_id)
        token = page.next_page_token
        if not token:
            return


async def _schedule(client: Client, schedule_id: str) -> AsyncIterator[ProtoMessage]:
    request = DescribeScheduleRequest(namespace=client.namespace, schedule_id=schedule_id)
    try:
        yield await client.workflow_service.describe_schedule(request)
    except RPCError as error:
        if error.status not in _GONE:
            raise


async def _activities(client: Client) -> AsyncIterator[AsyncIterator[ProtoMessage]]:
    """Yield standalone activities; there are none on a server that doesn't know them."""
    token = b""
    while True:
        request = ListActivityExecutionsRequest(namespace=client.namespace, page_size=_PAGE, next_page_token=token)
        try:
            page = await client.workflow_service.list_activity_executions(request)
        except RPCError as error:
            if error.status in _UNKNOWN:
                return
            raise
        for info in page.executions:
            yield _activity(client, info)
        token = page.next_page_token
        if not token:
            return


async def _activity(client: Client, info: Any) -> AsyncIterator[ProtoMessage]:
    request = DescribeActivityExecutionRequest(
        namespace=client.namespace,
        activity_id=info.activity_id,
        run_id=info.run_id,
        include_input=True,
        include_outcome=True,
    )
    try:
        yield await client.workflow_service.describe_activity_execution(request)
    except RPCError as error:
        if error.status not in _GONE:
            raise
