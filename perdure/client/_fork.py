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
from perdure.client._turns import Turns, read_earlier, read_turns
from perdure.contracts.fork import Fork, ForkedFrom
from perdure.contracts.limits import Limits
from perdure.contracts.names import AGENT_WORKFLOW, FORK_MEMO
from perdure.contracts.run import Carried, Counters, ResumedTurn, RunInput
from perdure.contracts.spec import AgentSpec, SpecChanges
from perdure.contracts.times import TASK_TIMEOUT
from perdure.errors import InvalidInputError, PayloadTooLargeError, RunExistsError

_MAX_BYTES = 1_500_000


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
    info, turns = await read_turns(client, request.workflow_id)
    point = fork_point(turns, request)
    turns = await _holding(client, turns, point.end)
    spec = _spec(turns, point.end)
    for model in request.models:
        check_model(spec.name, model)
    made = _input(turns, point, spec, request)
    size = len(made.to_bytes())
    if size > _MAX_BYTES:
        raise PayloadTooLargeError(
            f"What the fork is given takes {size} bytes, more than {_MAX_BYTES}: let a tool read the rest."
        )
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
    values = {
        "PerdureAgent": spec.name,
        "PerdureModel": (*request.models, spec.models[0].name)[0],
        "PerdureState": "working",
        "PerdureTenant": made.tenant,
    }
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


async def _holding(client: Client, turns: Turns, end: int) -> Turns:
    """Return the run of the chain that knows what the agent was at a slot: it may have handed over since.

    Raises:
        InvalidInputError: It is no longer retained. Not retryable.
    """
    while turns.carried is not None and turns.carried.counters.handoffs and end < turns.carried.conversation_slots:
        earlier = await read_earlier(client, turns)
        if earlier is None:
            raise InvalidInputError(
                f"An agent of before a handoff had that turn of {turns.workflow_id!r}, and its run is no longer "
                "retained: fork at a later turn."
            )
        turns = earlier
    return turns


def _spec(turns: Turns, end: int) -> AgentSpec:
    """Return what the model is asked with after a slot, before any change."""
    spec = turns.spec_at(end)
    if spec is None:
        raise InvalidInputError(f"The run {turns.workflow_id!r} has not begun yet: try again in a moment.")
    last = next((m for m in reversed(turns.messages[:end]) if m.role == "assistant"), None)
    if turns.asked(end) is not None or last is None:
        return spec
    for call in last.tool_calls:  # it handed over, and the other agent was not asked yet
        tool = spec.tool(call.name)
        if tool is not None and tool.handoff:
            return next((each for each in turns.run.specs.values() if each.name == tool.handoff), spec)
    return spec


def _handoffs(turns: Turns, end: int, agent: str) -> tuple[str, ...]:
    """Return the agents that had the conversation before the one that has it at a slot."""
    path = [] if turns.carried is None else list(turns.carried.counters.handoffs)
    names = [*(spec.name for n in range(end) if (spec := turns.pinned(n)) is not None), agent]
    return (*path, *(name for name, after in pairwise(names) if name != after))


def _input(turns: Turns, point: ForkPoint, spec: AgentSpec, request: ForkRequest) -> RunInput:
    source = turns.run.request
    assert source is not None, "the history of an agent's run begins with its input"
    changes = SpecChanges(models=tuple(request.models), instructions=request.instructions)
    carried = Carried(
        from_run_id=turns.run_id,
        spec=spec.digest,
        conversation_slots=point.slots,
        started_at=datetime.now(UTC),
        epoch=turns.epoch,
        counters=Counters(copied_turns=point.turn, handoffs=_handoffs(turns, point.end, spec.name)),
        resumed=ResumedTurn(),
        fork=Fork(
            workflow_id=turns.workflow_id,
            given=point.given,
            changes=None if changes == SpecChanges() else changes,
        ),
    )
    forked = ForkedFrom(
        workflow_id=turns.workflow_id, run_id=turns.run_id, turn=point.turn, changes=request.changes
    )
    return source.model_copy(
        update={
            "input": (),
            "limits": (request.limits or Limits()).over(source.limits),
            "depth": 0,
            "answers": None,
            "lease": None,
            "forked": forked,
            "carried": carried,
        }
    )
