"""What something still refers to in storage. Client side; needs no worker.

Reads the history of every run that the server still has, open or closed, what open runs have pending, the
schedules and the standalone activities. Whatever can't be read is an error: then nobody knows what is alive.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from google.protobuf.message import Message as ProtoMessage
from temporalio.api.common.v1 import Payload
from temporalio.api.common.v1 import WorkflowExecution as Execution
from temporalio.api.enums.v1 import WorkflowExecutionStatus
from temporalio.api.sdk.v1 import ExternalStorageReference
from temporalio.api.workflowservice.v1 import (
    DescribeActivityExecutionRequest,
    DescribeScheduleRequest,
    DescribeWorkflowExecutionRequest,
    GetWorkflowExecutionHistoryRequest,
    ListActivityExecutionsRequest,
    ListSchedulesRequest,
    ListWorkflowExecutionsRequest,
)
from temporalio.client import Client
from temporalio.converter import JSONProtoPayloadConverter
from temporalio.service import RPCError, RPCStatusCode

from perdure.errors import StorageError
from perdure.storage import local

RUNNING = WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_RUNNING

_NAMES = {local.NAME: "digest", "aws.s3driver": "key", "gcp.gcsdriver": "object_name"}
"""What names a payload in the references of a driver."""

_DIGEST = re.compile(rb"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")
_AT_ONCE = 8
_PAGE = 500
_GONE = (RPCStatusCode.NOT_FOUND,)
_UNKNOWN = (RPCStatusCode.UNIMPLEMENTED, RPCStatusCode.INVALID_ARGUMENT, RPCStatusCode.FAILED_PRECONDITION)


@dataclass
class Marks:
    """What something refers to.

    Attributes:
        names: Digests of the local driver's payloads, and names of objects in buckets.
        digests: Of what is kept whatever the rest of its name.
        runs: How many runs were read.
    """

    names: set[str] = field(default_factory=set[str])
    digests: set[str] = field(default_factory=set[str])
    runs: int = 0

    def has(self, name: str) -> bool:
        """Say whether something refers to what has that name."""
        return name in self.names or name[-64:] in self.digests


async def mark(client: Client) -> Marks:
    """Return what the runs, schedules and standalone activities of the namespace refer to.

    Raises:
        StorageError: A reference can't be read, so that nobody knows what is alive. Not retryable.
        RPCError: Temporal's.
    """
    marks = Marks()
    for sources in (_runs(client, marks), _schedules(client, marks), _activities(client)):
        await _read(marks, sources)
    return marks


async def _read(marks: Marks, sources: AsyncIterator[AsyncIterator[ProtoMessage]]) -> None:
    gate = asyncio.Semaphore(_AT_ONCE)
    tasks: set[asyncio.Task[None]] = set()
    try:
        async for source in sources:
            await gate.acquire()
            task = asyncio.create_task(_take(marks, source))
            tasks.add(task)
            task.add_done_callback(lambda _: gate.release())
            for done in [each for each in tasks if each.done()]:
                tasks.discard(done)
                done.result()
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)  # one error is told, not one for each


async def _take(marks: Marks, source: AsyncIterator[ProtoMessage]) -> None:
    async for message in source:
        marks.names |= {named for payload in payloads(message) if (named := _name(payload))}


def _name(payload: Payload) -> str:
    """Return what a reference refers to; empty where it is none, or of a driver that nobody knows."""
    is_legacy = payload.metadata.get("encoding") == b"json/external-storage-reference"
    if not (payload.external_payloads or is_legacy):
        return ""
    try:
        found: Any = JSONProtoPayloadConverter().from_payload(payload, ExternalStorageReference)
        claim: dict[str, str] = dict(found.claim_data)
        field_name = _NAMES.get(found.driver_name)
        # Drivers of Temporal's classes can have other names.
        return claim[field_name] if field_name else claim.get("key") or claim.get("object_name") or ""
    except Exception as error:
        raise StorageError(
            f"A reference to a stored payload can't be read: {type(error).__name__}: {error}. Nothing was deleted."
        ) from None


def payloads(message: ProtoMessage) -> Iterator[Payload]:
    """Yield every payload within a message of the protocol."""
    if isinstance(message, Payload):
        yield message
        return
    for descriptor, value in message.ListFields():
        if descriptor.message_type is None:
            continue
        if isinstance(value, ProtoMessage):
            yield from payloads(value)
        elif descriptor.message_type.GetOptions().map_entry:
            for each in value.values():
                if isinstance(each, ProtoMessage):
                    yield from payloads(each)
        else:
            for each in value:
                yield from payloads(each)


async def _all_pages(ask: Callable[[bytes], Awaitable[Any]]) -> AsyncIterator[Any]:
    """Yield the pages of a listing; `ask` is given the token of each."""
    token = b""
    while True:
        page = await ask(token)
        yield page
        token = page.next_page_token
        if not token:
            return


async def _unless_gone(ask: Callable[[], Awaitable[ProtoMessage]]) -> AsyncIterator[ProtoMessage]:
    """Yield what is there; nothing where it went just now."""
    try:
        yield await ask()
    except RPCError as error:
        if error.status not in _GONE:
            raise


async def _runs(client: Client, marks: Marks) -> AsyncIterator[AsyncIterator[ProtoMessage]]:
    def ask(token: bytes) -> Awaitable[Any]:
        request = ListWorkflowExecutionsRequest(namespace=client.namespace, page_size=_PAGE, next_page_token=token)
        return client.workflow_service.list_workflow_executions(request, retry=True)

    async for page in _all_pages(ask):
        for info in page.executions:
            marks.runs += 1
            yield _history(client, info)


async def _history(client: Client, info: Any) -> AsyncIterator[ProtoMessage]:
    yield info
    if info.status == RUNNING:
        async for message in _pending(client, info):
            yield message
    async for message in _events(client, info.execution):
        yield message


async def _events(client: Client, execution: Execution) -> AsyncIterator[ProtoMessage]:
    def ask(token: bytes) -> Awaitable[Any]:
        request = GetWorkflowExecutionHistoryRequest(
            namespace=client.namespace, execution=execution, next_page_token=token
        )
        return client.workflow_service.get_workflow_execution_history(request, retry=True)

    try:
        async for page in _all_pages(ask):
            yield page.history
    except RPCError as error:
        if error.status not in _GONE:
            raise  # else its time of retention ended just now


def _pending(client: Client, info: Any) -> AsyncIterator[ProtoMessage]:
    """Yield what an open run has and its history hasn't: heartbeats and failures of activities that go on.

    It is to be read before the history: what ends meanwhile is told there.
    """
    request = DescribeWorkflowExecutionRequest(namespace=client.namespace, execution=info.execution)
    return _unless_gone(partial(client.workflow_service.describe_workflow_execution, request, retry=True))


async def _schedules(client: Client, marks: Marks) -> AsyncIterator[AsyncIterator[ProtoMessage]]:
    def ask(token: bytes) -> Awaitable[Any]:
        request = ListSchedulesRequest(namespace=client.namespace, maximum_page_size=_PAGE, next_page_token=token)
        return client.workflow_service.list_schedules(request, retry=True)

    async for page in _all_pages(ask):
        for entry in page.schedules:
            yield _schedule(client, marks, entry.schedule_id)


async def _schedule(client: Client, marks: Marks, schedule_id: str) -> AsyncIterator[ProtoMessage]:
    request = DescribeScheduleRequest(namespace=client.namespace, schedule_id=schedule_id)
    async for message in _unless_gone(partial(client.workflow_service.describe_schedule, request, retry=True)):
        yield message
    # A run gets the last result of the runs before it, even of one that the server has no more. The server knows
    # it in a workflow of its own, deep in messages of its own, where the reference is as it was.
    async for message in _events(client, Execution(workflow_id=f"temporal-sys-scheduler:{schedule_id}")):
        for payload in payloads(message):
            marks.digests |= {found.decode() for found in _DIGEST.findall(payload.data)}


async def _activities(client: Client) -> AsyncIterator[AsyncIterator[ProtoMessage]]:
    """Yield standalone activities; there are none on a server that doesn't know them."""

    def ask(token: bytes) -> Awaitable[Any]:
        request = ListActivityExecutionsRequest(namespace=client.namespace, page_size=_PAGE, next_page_token=token)
        return client.workflow_service.list_activity_executions(request, retry=True)

    try:
        async for page in _all_pages(ask):
            for info in page.executions:
                yield _activity(client, info)
    except RPCError as error:
        if error.status not in _UNKNOWN:
            raise


def _activity(client: Client, info: Any) -> AsyncIterator[ProtoMessage]:
    request = DescribeActivityExecutionRequest(
        namespace=client.namespace,
        activity_id=info.activity_id,
        run_id=info.run_id,
        include_input=True,
        include_outcome=True,
        include_heartbeat_details=True,
        include_last_failure=True,
    )
    return _unless_gone(partial(client.workflow_service.describe_activity_execution, request, retry=True))
