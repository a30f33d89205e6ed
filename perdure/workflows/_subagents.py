"""A child run of an agent: how it is started, and how its end becomes a typed error. Workflow side."""

from collections.abc import Callable, Iterable
from typing import Any

from temporalio import workflow
from temporalio.common import TypedSearchAttributes
from temporalio.exceptions import (
    ApplicationError,
    ChildWorkflowError,
    WorkflowAlreadyStartedError,
    is_cancelled_exception,
)
from temporalio.exceptions import TimeoutError as TemporalTimeoutError
from temporalio.workflow import ChildWorkflowCancellationType, ParentClosePolicy

from perdure.contracts.messages import TextPart
from perdure.contracts.names import AGENT_WORKFLOW
from perdure.contracts.rerun import ResumeRunRequest, ResumeRunResult
from perdure.contracts.run import AnswersCall, EarlierRun, RunInput, RunResult
from perdure.contracts.texts import one_line
from perdure.contracts.times import TASK_TIMEOUT
from perdure.contracts.waits import ApprovalRule
from perdure.errors import InvalidInputError, PerdureError, RunCancelled, RunTerminated, TaskFailed, revive
from perdure.workflows._calls import resume_run
from perdure.workflows._guard import CancelWatch
from perdure.workflows._host import current_host
from perdure.workflows._outgoing import outgoing

_CANCELLED_PATCH = "perdure.child-cancelled"
"""A child that somebody cancelled failed its parent without a type, before there was this."""
_RESUMED_PATCH = "perdure.resumed-ids"
"""Runs that were started again numbered their children from 1, before there was this."""


def new_child_id(agent: str) -> str:
    """Return the workflow id of the next child run of an agent, by call order."""
    return f"{workflow.info().workflow_id}/{agent}-{current_host().number(agent)}"


def keep_child_ids(runs: Iterable[EarlierRun]) -> None:
    """Give the ids of child runs that are to go on to no other: both would be open at once."""
    ids = [run.workflow_id.removeprefix(f"{workflow.info().workflow_id}/") for run in runs]
    if not ids or not workflow.patched(_RESUMED_PATCH):
        return
    for id in ids:
        agent, _, number = id.rpartition("-")
        if number.isdecimal():
            current_host().skip(agent, int(number))


async def run_child(
    request: RunInput,
    *,
    workflow_id: str | None = None,
    on_started: Callable[[], None] | None = None,
    earlier: EarlierRun | None = None,
    attributes: TypedSearchAttributes | None = None,
) -> RunResult:
    """Run an agent as a child, and return its result as recorded. Raises what `run_agent` does.

    Args:
        request: The run's input.
        workflow_id: Its id; by call order when None.
        on_started: Called when the server has its input.
        earlier: The run to go on from; where there is none, one that the workflow was told of.
        attributes: The search attributes that it begins with; it writes what is missing.
    """
    name, watch = request.agent, CancelWatch()
    child_id = workflow_id or new_child_id(name)
    found = await _find(child_id, earlier)
    if found.result is not None:
        return RunResult.model_validate(found.result)
    if found != ResumeRunResult():
        request = request.model_copy(update={"carried": found.carried, "spent": found.spent})
    text = "".join(part.text for part in request.input if isinstance(part, TextPart))
    funds, on_its_way = current_host().funds, outgoing()
    if not on_its_way.holds(child_id):
        await on_its_way.reserve(child_id, len(request.to_bytes()))
    funds.open_children += 1
    try:
        with current_host().child_runs.entered(child_id, name) as note_run:
            starting = workflow.start_child_workflow(
                AGENT_WORKFLOW,
                request,
                id=child_id,
                result_type=RunResult,
                task_timeout=TASK_TIMEOUT,
                cancellation_type=ChildWorkflowCancellationType.WAIT_CANCELLATION_COMPLETED,
                parent_close_policy=ParentClosePolicy.REQUEST_CANCEL,
                search_attributes=attributes,
                static_summary=f"{name}: {one_line(text)}",
            )
            try:
                handle = await watch.through(starting)
            except WorkflowAlreadyStartedError:
                raise InvalidInputError(
                    f"agent {name!r}: there is a run {child_id!r} already: give another id."
                ) from None
            note_run(handle.first_execution_run_id or "")
            on_its_way.arrived(child_id)
            if on_started is not None:
                on_started()
            return await handle
    except ChildWorkflowError as error:
        if not is_cancelled_exception(error):
            raise _child_failure(error, name, child_id) from error
        if watch.is_cancelled() or not workflow.patched(_CANCELLED_PATCH):
            raise
        cancelled = f"agent {name!r}: its run was cancelled."
        raise RunCancelled(cancelled, agent=name, workflow_id=child_id) from error
    finally:
        on_its_way.ended(child_id)
        funds.open_children -= 1


async def _find(child_id: str, given: EarlierRun | None) -> ResumeRunResult:
    """Return what is good of the run of before that a child goes on from; nothing where there is none."""
    host, found = current_host(), ResumeRunResult()
    while True:
        resets = await host.know_earlier()
        earlier, given = given or host.take_earlier(child_id), None
        if earlier is None:
            return found
        found = await resume_run(ResumeRunRequest(run=earlier))
        if not host.is_reset_since(resets):
            return found


def subagent_request(
    agent: str,
    text: str,
    *,
    depth: int,
    tenant: str,
    answers: AnswersCall,
    approvals: tuple[ApprovalRule, ...] = (),
) -> RunInput:
    """Return the input of a subagent's run."""
    return RunInput(
        agent=agent,
        input=(TextPart(text=text),),
        tenant=tenant,
        depth=depth,
        answers=answers,
        approvals=approvals,
    )


def _child_failure(error: ChildWorkflowError, agent: str, workflow_id: str) -> PerdureError:
    """Return the typed error of a child's run, with the agent's name in front."""
    cause = error.cause
    revived = revive(cause) if cause is not None else error
    known: dict[str, Any] = {"agent": agent, "workflow_id": workflow_id}
    if isinstance(revived, PerdureError):
        return revived.told_by(f"agent {agent!r}: ", **known)
    if isinstance(cause, TemporalTimeoutError):
        return RunTerminated(f"agent {agent!r}: did not end within its time.", **known)
    if isinstance(cause, ApplicationError):
        return TaskFailed(f"agent {agent!r}: {cause.type}: {cause.message}", failure=cause.type, **known)
    return RunTerminated(f"agent {agent!r}: its run was ended from outside.", **known)
