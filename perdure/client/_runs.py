"""Runs as the server lists them. Client side.

Read from the protocol's own messages: the SDK's `list_workflows` and `describe` raise on a status that it doesn't
know, such as that of a run paused by an operator, and one such run must not hide the others.
"""

from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any, Literal, get_args

from google.protobuf.timestamp_pb2 import Timestamp
from pydantic import BaseModel, ConfigDict
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.enums.v1 import WorkflowExecutionStatus
from temporalio.api.workflow.v1 import WorkflowExecutionInfo
from temporalio.api.workflowservice.v1 import (
    CountWorkflowExecutionsRequest,
    DescribeWorkflowExecutionRequest,
    DescribeWorkflowExecutionResponse,
    ListWorkflowExecutionsRequest,
)
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from perdure.contracts.names import SEARCH_ATTRIBUTES
from perdure.contracts.run import RunState
from perdure.errors import InvalidInputError, RunNotFoundError, suggest

RunStatusName = Literal[
    "running",
    "completed",
    "failed",
    "canceled",
    "terminated",
    "continued_as_new",
    "timed_out",
    "paused",
    "unknown",
]

_SAYS_CLOSED = "already completed"
_NO_IDS = ("WorkflowId is not set on request.", "Invalid RunId.")
"""The invalid arguments that are no ids of a run; others are about what it is given, such as a signal's name."""
_PREFIX = "WORKFLOW_EXECUTION_STATUS_"
_PAGE = 200


class RunInfo(BaseModel):
    """A run as the server lists it."""

    model_config = ConfigDict(frozen=True)

    workflow_id: str
    run_id: str
    workflow: str
    """Workflow type; `AgentWorkflow` for an agent's run."""
    status: RunStatusName
    agent: str | None = None
    state: str | None = None
    """Ours, finer than `status`; None when the server has no search attributes of ours."""
    turns: int | None = None
    """Here and below: as of the last change of `state`. None where the run has not told, or it isn't known."""
    tokens: int | None = None
    cost_usd: float | None = None
    task_queue: str
    started_at: datetime
    closed_at: datetime | None = None
    history_events: int
    """Of this run alone, not of those that it continues."""
    history_bytes: int


def status_name(status: int) -> RunStatusName:
    """Return our name of Temporal's status."""
    try:
        name = WorkflowExecutionStatus.Name(status)  # pyright: ignore[reportArgumentType]
    except ValueError:
        return "paused" if status == 8 else "unknown"
    short: Any = name.removeprefix(_PREFIX).lower()
    return short if short in get_args(RunStatusName) else "unknown"


def to_info(info: WorkflowExecutionInfo, client: Client) -> RunInfo:
    """Read the protocol's message."""
    attributes = read_attributes(info, client)
    return RunInfo(
        workflow_id=info.execution.workflow_id,
        run_id=info.execution.run_id,
        workflow=info.type.name,
        status=status_name(info.status),
        agent=attributes.get("PerdureAgent"),
        state=attributes.get("PerdureState"),
        turns=attributes.get("PerdureTurns"),
        tokens=attributes.get("PerdureTokens"),
        cost_usd=attributes.get("PerdureCostUsd"),
        task_queue=info.task_queue,
        started_at=_time(info.start_time),
        closed_at=_time(info.close_time) if info.HasField("close_time") else None,
        history_events=info.history_length,
        history_bytes=info.history_size_bytes,
    )


async def describe(client: Client, workflow_id: str, run_id: str = "") -> DescribeWorkflowExecutionResponse:
    """Describe a run.

    Raises:
        RunNotFoundError: There is none. Not retryable.
    """
    request = DescribeWorkflowExecutionRequest(
        namespace=client.namespace, execution=WorkflowExecution(workflow_id=workflow_id, run_id=run_id)
    )
    try:
        return await client.workflow_service.describe_workflow_execution(request, retry=True)
    except RPCError as error:
        raise not_found(error, workflow_id) from None


async def first_start(client: Client, described: DescribeWorkflowExecutionResponse) -> datetime:
    """Return when the first run of a chain started, as far as the server still knows."""
    info = described.workflow_execution_info
    if info.first_run_id in ("", info.execution.run_id):
        return _time(info.start_time)
    try:
        first = await describe(client, info.execution.workflow_id, info.first_run_id)
    except RunNotFoundError:
        return _time(info.start_time)
    return _time(first.workflow_execution_info.start_time)


def not_found(error: RPCError, workflow_id: str) -> Exception:
    """Return what an error of the server's says of a run, or `error` itself where it says nothing of it."""
    if says_closed(error):
        return closed(workflow_id)
    is_invalid = error.status == RPCStatusCode.INVALID_ARGUMENT
    if error.status == RPCStatusCode.NOT_FOUND or (is_invalid and error.message in _NO_IDS):
        return RunNotFoundError(f"There is no run {workflow_id!r}. `perdure list` shows the runs that there are.")
    if is_invalid:
        return InvalidInputError(f"Temporal can't do that with run {workflow_id!r}: {error.message.rstrip('.')}.")
    return error


def says_closed(error: RPCError) -> bool:
    """Say whether an error says that the run is closed."""
    return error.status == RPCStatusCode.NOT_FOUND and _SAYS_CLOSED in error.message


def closed(workflow_id: str) -> RunNotFoundError:
    """Return what says that a run takes nothing any more."""
    return RunNotFoundError(f"The run {workflow_id!r} is closed: `perdure show {workflow_id}` says how it ended.")


def is_closed(described: DescribeWorkflowExecutionResponse) -> bool:
    """Say whether a run is over; one that continued as new is."""
    return described.workflow_execution_info.HasField("close_time")


async def list_runs(client: Client, query: str, limit: int) -> AsyncIterator[RunInfo]:
    """Yield runs, the latest first.

    Raises:
        InvalidInputError: The server can't use the query. Not retryable.
    """
    async for info in list_executions(client, query, limit):
        yield to_info(info, client)


async def list_executions(client: Client, query: str, limit: int) -> AsyncIterator[WorkflowExecutionInfo]:
    """Yield the protocol's messages of runs, as `list_runs` does."""
    token, left = b"", limit
    while left > 0:
        request = ListWorkflowExecutionsRequest(
            namespace=client.namespace, query=query, page_size=min(left, _PAGE), next_page_token=token
        )
        try:
            page = await client.workflow_service.list_workflow_executions(request, retry=True)
        except RPCError as error:
            raise _query_error(error, query) from None
        for info in page.executions[:left]:
            yield info
        left -= len(page.executions)
        token = page.next_page_token
        if not token:
            return


def list_query(
    *,
    status: str | None = None,
    state: str | None = None,
    agent: str | None = None,
    model: str | None = None,
    tenant: str | None = None,
    min_cost_usd: float | None = None,
    extra: str | None = None,
) -> str:
    """Return a visibility query of these filters together.

    Raises:
        InvalidInputError: No run can be asked for by that status or state. Not retryable.
    """
    parts: list[str] = []
    if status:
        camel = next((each for name, each in _CAMEL.items() if name == status), None)
        if camel is None:
            raise InvalidInputError(f"Runs can't be listed by status {status!r}.{suggest(status, _CAMEL)}")
        parts.append(f"ExecutionStatus = '{camel}'")
    if state and state not in get_args(RunState):
        known = get_args(RunState)
        raise InvalidInputError(
            f"No run has the state {state!r}.{suggest(state, known)} There are {', '.join(known)}."
        )
    words = {"PerdureState": state, "PerdureAgent": agent, "PerdureModel": model, "PerdureTenant": tenant}
    parts.extend(f"{name} = '{quoted(value)}'" for name, value in words.items() if value)
    if min_cost_usd is not None:
        parts.append(f"PerdureCostUsd >= {min_cost_usd:.12f}")
    if extra:
        parts.append(f"({extra})")
    return " AND ".join(parts)


_CAMEL: dict[RunStatusName, str] = {
    "running": "Running",
    "completed": "Completed",
    "failed": "Failed",
    "canceled": "Canceled",
    "terminated": "Terminated",
    "continued_as_new": "ContinuedAsNew",
    "timed_out": "TimedOut",
}


async def count_by_status(client: Client, query: str) -> "Counter[RunStatusName]":
    """Return how many runs have each status; nothing where the server's store can't group."""
    request = CountWorkflowExecutionsRequest(namespace=client.namespace, query=f"{query} GROUP BY ExecutionStatus")
    try:
        answer = await client.workflow_service.count_workflow_executions(request, retry=True)
    except RPCError:
        return Counter()
    names: dict[str, RunStatusName] = {camel: name for name, camel in _CAMEL.items()}
    decode = client.data_converter.payload_converter.from_payload
    counts: Counter[RunStatusName] = Counter()
    for group in answer.groups:
        status: RunStatusName = names.get(str(decode(group.group_values[0]))) or "unknown"
        counts[status] += group.count
    return counts


def quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace("'", "\\'")


def _query_error(error: RPCError, query: str) -> Exception:
    if error.status != RPCStatusCode.INVALID_ARGUMENT:
        return error
    remedy = ""
    if any(name in error.message for name in SEARCH_ATTRIBUTES):
        remedy = " The server lacks perdure's search attributes: run `perdure doctor --fix`."
    return InvalidInputError(f"The server can't use the query {query!r}: {error.message}.{remedy}")


def read_attributes(info: WorkflowExecutionInfo, client: Client) -> dict[str, Any]:
    """Return perdure's search attributes of a run, by name."""
    fields = info.search_attributes.indexed_fields
    converter = client.data_converter.payload_converter
    return {name: converter.from_payload(fields[name]) for name in SEARCH_ATTRIBUTES if name in fields}


def _time(stamp: Timestamp) -> datetime:
    return stamp.ToDatetime(tzinfo=UTC)
