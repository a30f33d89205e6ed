"""Forking a run: a new one begins with the first turns of another. Client side; needs no worker.

The new run copies the conversation itself, in pages, as after Continue-As-New. Here it is told which slots of
which run that are, and what is to be otherwise: a message, results of tools, the model, instructions.
"""

from datetime import UTC, datetime
from itertools import pairwise
from typing import Any
from uuid import uuid4

from pydantic import BaseModel, ConfigDict
from temporalio.client import Client, WorkflowHandle
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.exceptions import WorkflowAlreadyStartedError

from perdure.agents.agent import check_model
from perdure.client._attributes import StartAttributes
from perdure.client._fork_point import ForkPoint, ForkRequest, fork_point
from perdure.client._priority import run_priority
from perdure.client._runs import RunInfo, describe
from perdure.client._sizes import check_input
from perdure.client._turns import Chain, Turn, read_turns
from perdure.contracts.attributes import first_attributes
from perdure.contracts.fork import Fork, ForkedFrom
from perdure.contracts.limits import Limits
from perdure.contracts.names import AGENT_WORKFLOW, FORK_MEMO
from perdure.contracts.run import Carried, Counters, ResumedTurn, RunInput
from perdure.contracts.spec import AgentSpec, SpecChanges
from perdure.contracts.times import TASK_TIMEOUT
from perdure.errors import InvalidInputError, RunExistsError


class ForkResult(BaseModel):
    """A fork that was just started."""

    model_config = ConfigDict(frozen=True)

    workflow_id: str
    run_id: str
    source: str
    """The run that it was forked from."""
    source_run_id: str
    turn: int
    """The last turn that the two have in common."""
    messages: int
    """How many they have in common."""
    changes: tuple[str, ...] = ()
    """What is not as in the other run, in words."""


async def fork(client: Client, request: ForkRequest, attributes: StartAttributes) -> ForkResult:
    """Start a fork, on the Task Queue of the run that is forked.

    Raises:
        RunNotFoundError: There is no such run. Not retryable.
        InvalidInputError: It has no such turn, or the model would have nothing to do. Not retryable.
        UnknownModelError, PayloadTooLargeError: Not retryable.
        RunExistsError: There is a run of the fork's id. Not retryable.
    """
    info, chain = await read_turns(client, request.workflow_id)
    point = fork_point(chain, request)
    turn = _holding(chain, point)
    spec = _spec(turn, point.end)
    for model in request.models:
        check_model(spec.name, model)
    made = _input(turn, point, spec, request)
    check_input(len(made.to_bytes()), client)
    started = await _start(client, info, made, spec, request, attributes)
    forked = made.forked
    assert forked is not None, "the input is that of a fork"
    return ForkResult(
        workflow_id=started.id,
        run_id=started.result_run_id or "",
        source=forked.workflow_id,
        source_run_id=forked.run_id,
        turn=forked.turn,
        messages=point.end - sum(each.slot < point.end for each in point.given),
        changes=forked.changes,
    )


async def _start(
    client: Client,
    info: RunInfo,
    made: RunInput,
    spec: AgentSpec,
    request: ForkRequest,
    attributes: StartAttributes,
) -> WorkflowHandle[Any, Any]:
    workflow_id = request.id or _new_id(info.workflow_id)
    described = await describe(client, info.workflow_id)
    priority = described.workflow_execution_info.priority.priority_key or None
    assert made.forked is not None, "the input is that of a fork"
    values = first_attributes(spec.name, (*request.models, spec.models[0].name)[0], made.tenant)
    try:
        return await client.start_workflow(
            AGENT_WORKFLOW,
            made,
            id=workflow_id,
            task_queue=info.task_queue,
            task_timeout=TASK_TIMEOUT,
            id_conflict_policy=WorkflowIDConflictPolicy.FAIL,
            id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
            static_summary=f"{spec.name}: fork of {info.workflow_id} at turn {made.forked.turn}",
            memo={FORK_MEMO: made.forked},
            search_attributes=await attributes.of(values),
            priority=run_priority(workflow_id, tenant=made.tenant, priority=priority),
        )
    except WorkflowAlreadyStartedError:
        raise RunExistsError(f"There is a run {workflow_id!r} already: a fork needs an id of its own.") from None


def _new_id(source: str) -> str:
    return f"{source.rpartition('-fork-')[0] or source}-fork-{uuid4().hex[:8]}"


def _holding(chain: Chain, point: ForkPoint) -> Turn:
    """Return the turn as the run has it that knows what the agent was then: it may have handed over since.

    Raises:
        InvalidInputError: That run is no longer retained. Not retryable.
    """
    for holder in chain.holders(point.turn.number):
        turn = chain.turn(point.turn.number, holder=holder)
        carried = turn.carried
        if (
            carried is None
            or carried.fork is not None
            or not carried.counters.handoffs
            or (turn.epoch, point.end) >= (carried.epoch, carried.conversation_slots)
        ):
            return turn
    raise InvalidInputError(
        f"An agent of before a handoff had that turn of {chain.workflow_id!r}, and its run is no longer retained: "
        "fork at a later turn."
    )


def _spec(turn: Turn, end: int) -> AgentSpec:
    """Return what the model is asked with after a slot, before any change."""
    specs = turn.pinned_up_to(end)
    if not specs:
        raise InvalidInputError("The run has not begun yet: try again in a moment.")
    if turn.reply is None or turn.asked(end) is not None:
        return specs[-1]
    for call in turn.reply.tool_calls:  # it handed over, and the other agent was not asked yet
        tool = specs[-1].tool(call.name)
        if tool is not None and tool.handoff:
            return next((each for each in turn.run.specs.values() if each.name == tool.handoff), specs[-1])
    return specs[-1]


def _handoffs(turn: Turn, end: int, agent: str) -> tuple[str, ...]:
    """Return the agents that had the conversation before the one that has it at a slot."""
    path = [] if turn.carried is None else list(turn.carried.counters.handoffs)
    names = [*(spec.name for spec in turn.pinned_up_to(end)), agent]
    return (*path, *(name for name, after in pairwise(names) if name != after))


def _input(turn: Turn, point: ForkPoint, spec: AgentSpec, request: ForkRequest) -> RunInput:
    source = turn.run.request
    assert source is not None, "the history of an agent's run begins with its input"
    changes = SpecChanges(models=tuple(request.models), instructions=request.instructions)
    carried = Carried(
        from_run_id=turn.run_id,
        spec=spec.digest,
        conversation_slots=point.slots,
        started_at=datetime.now(UTC),
        epoch=turn.epoch,
        counters=Counters(copied_turns=turn.number, handoffs=_handoffs(turn, point.end, spec.name)),
        resumed=ResumedTurn(),
        fork=Fork(
            workflow_id=request.workflow_id,
            given=point.given,
            changes=None if changes == SpecChanges() else changes,
        ),
    )
    forked = ForkedFrom(
        workflow_id=request.workflow_id, run_id=turn.run_id, turn=turn.number, changes=request.changes
    )
    return source.model_copy(
        update={
            "input": (),
            "limits": (request.limits or Limits()).over(source.limits),
            "depth": 0,
            "answers": None,
            "lease": None,
            "spent": None,
            "inbox": None,
            "forked": forked,
            "carried": carried,
        }
    )
