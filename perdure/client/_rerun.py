"""Starting a run again that did not complete, from what is good of it. Client side; needs no worker.

An agent's run goes on in a new run of the same workflow id, which copies the conversation to the last good turn.
That works whatever ended it, and leaves its history as it is. Any other workflow is reset by Temporal, which keeps
its history up to the step that failed; perdure's primitives then find the child runs after that, and take what
these gave.
"""

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from typing import Any
from uuid import uuid4

from pydantic import BaseModel, ConfigDict
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.enums.v1 import ResetReapplyExcludeType
from temporalio.api.workflowservice.v1 import ResetWorkflowExecutionRequest
from temporalio.client import Client, WorkflowFailureError, WorkflowHandle
from temporalio.common import WorkflowIDConflictPolicy

from perdure.client._reset_point import ResetPoint, ResetReader
from perdure.client._runs import RunInfo, describe, to_info
from perdure.contracts.limits import Limits
from perdure.contracts.names import AGENT_WORKFLOW
from perdure.contracts.run import Carried, EarlierRun
from perdure.contracts.times import TASK_TIMEOUT
from perdure.errors import InvalidInputError, StillRunningError
from perdure.resuming import ResumeReader

_CLEAN_UP_SECONDS = 15.0


class RerunResult(BaseModel):
    """A run that was started again."""

    model_config = ConfigDict(frozen=True)

    workflow_id: str
    run_id: str
    kept: str
    """What of the run before is kept, in words."""
    is_beginning: bool = False
    """It starts from the beginning: there was nothing to keep."""
    repeats: tuple[str, ...] = ()
    """Steps that were finished and are done again: Temporal has no way to keep them."""


async def rerun(
    client: Client, workflow_id: str, *, limits: Limits | None, is_repeating: bool, failure: str
) -> RerunResult:
    """Start a closed run again. `failure` is what it failed with, if it did.

    Raises:
        RunNotFoundError: There is no such run. Not retryable.
        InvalidInputError: It is open, complete, part of another, or can't be started again so. Not retryable.
        StillRunningError: Runs below it are not over yet. Retryable.
    """
    described = await describe(client, workflow_id)
    info = to_info(described.workflow_execution_info, client)
    _check(info, described.workflow_execution_info.parent_execution.workflow_id)
    handle = client.get_workflow_handle(workflow_id, run_id=info.run_id)
    if info.workflow == AGENT_WORKFLOW:
        _check_limits(info, failure, limits)
        reader = ResumeReader(client.data_converter, info.run_id)
        async for event in handle.fetch_history_events():
            await reader.read(event)
        await _wait_for(client, reader.runs.values())
        return await _start_agent(client, info, reader, limits)
    if limits is not None:
        raise InvalidInputError(f"--limit is for the run of an agent; {workflow_id!r} is a {info.workflow}.")
    resets = ResetReader(client.data_converter)
    async for event in handle.fetch_history_events():
        await resets.read(event)
    point = resets.point()
    _check_point(info, point, is_repeating=is_repeating)
    await _wait_for(client, point.open_runs)
    return await _reset(client, info, point)


def _check(info: RunInfo, parent: str) -> None:
    name = info.workflow_id
    if info.closed_at is None:
        raise InvalidInputError(
            f"The run {name!r} is open: `perdure watch {name}` follows it, `perdure cancel {name}` ends it."
        )
    if info.status == "completed":
        raise InvalidInputError(f"The run {name!r} completed: `perdure result {name}` has its output.")
    if parent:
        raise InvalidInputError(
            f"The run {name!r} is part of {parent!r}: start that again, `perdure rerun {parent}`."
        )


def _check_limits(info: RunInfo, failure: str, limits: Limits | None) -> None:
    """Refuse what would fail at once."""
    kind, _, rest = failure.partition(": ")
    name = rest.removeprefix("The limit ").partition("=")[0]
    if kind != "LimitExceeded" or name not in Limits.model_fields:
        return
    if limits is None or getattr(limits, name) is None:
        written = Limits.model_fields[name].serialization_alias or name
        raise InvalidInputError(
            f"The run {info.workflow_id!r} is at its limit {name}: raise it with `--limit {written}=N`."
        )


def _check_point(info: RunInfo, point: ResetPoint, *, is_repeating: bool) -> None:
    if not point.task:
        raise InvalidInputError(
            f"The run {info.workflow_id!r} had not begun: no worker had taken it up. Start it anew."
        )
    if point.repeats_once and not is_repeating:
        names = ", ".join(sorted(set(point.repeats_once)))
        raise InvalidInputError(
            f"The run {info.workflow_id!r} would call {names} again, which may have taken effect and isn't "
            "idempotent. Find out, and give --repeat-tools if that is right."
        )


async def _wait_for(client: Client, runs: Iterable[EarlierRun]) -> None:
    """Wait until child runs are over: after a termination they are cancelled, and clean up."""
    try:
        async with asyncio.timeout(_CLEAN_UP_SECONDS):
            for run in runs:
                handle: WorkflowHandle[Any, Any] = client.get_workflow_handle(run.workflow_id, run_id=run.run_id)
                with suppress(WorkflowFailureError):
                    await handle.result()
    except TimeoutError:
        raise StillRunningError("Runs below it are not over yet; try again in a while.") from None


async def _start_agent(client: Client, info: RunInfo, reader: ResumeReader, limits: Limits | None) -> RerunResult:
    request = reader.request
    carried = reader.carried()
    changed = (limits or Limits()).over(request.limits)
    if carried is not None and limits is not None:
        carried = carried.model_copy(update={"raised": limits.over(carried.raised)})
    again = request.model_copy(update={"limits": changed, "carried": carried, "spent": reader.spent})
    if carried is None:
        again = again.model_copy(update={"inbox": reader.inbox(0)})
    handle = await client.start_workflow(
        AGENT_WORKFLOW,
        again,
        id=info.workflow_id,
        task_queue=info.task_queue,
        task_timeout=TASK_TIMEOUT,
        id_conflict_policy=WorkflowIDConflictPolicy.FAIL,
        static_summary=f"{request.agent}: started again",
    )
    return RerunResult(
        workflow_id=info.workflow_id,
        run_id=handle.result_run_id or "",
        kept=_kept(carried),
        is_beginning=carried is None,
    )


def _kept(carried: Carried | None) -> str:
    if carried is None or carried.resumed is None:
        return ""
    unknown = len(carried.resumed.unknown)
    told = f", {unknown} tool calls whose outcome is unknown are not made again" if unknown else ""
    messages = carried.conversation_slots + len(carried.resumed.kept)
    return f"{carried.counters.turns} turns, {messages} messages{told}"


async def _reset(client: Client, info: RunInfo, point: ResetPoint) -> RerunResult:
    answer = await client.workflow_service.reset_workflow_execution(
        ResetWorkflowExecutionRequest(
            namespace=client.namespace,
            workflow_execution=WorkflowExecution(workflow_id=info.workflow_id, run_id=info.run_id),
            reason="perdure rerun",
            workflow_task_finish_event_id=point.task,
            request_id=str(uuid4()),
            reset_reapply_exclude_types=[ResetReapplyExcludeType.RESET_REAPPLY_EXCLUDE_TYPE_CANCEL_REQUEST],
        )
    )
    is_beginning = point.is_beginning and not point.runs
    return RerunResult(
        workflow_id=info.workflow_id,
        run_id=answer.run_id,
        kept="" if is_beginning else f"its history before event {point.task}, and {len(point.runs)} child runs",
        is_beginning=is_beginning,
        repeats=point.repeats,
    )
