"""The scoreboard, as people see it: its table, and their judgement of a run. Client side."""

import math
from datetime import timedelta
from typing import Any
from uuid import uuid4

from temporalio.api.enums.v1 import EventType
from temporalio.client import Client, WorkflowHandle
from temporalio.service import RPCError, RPCStatusCode

from perdure.client._runs import describe, not_found
from perdure.contracts.names import (
    AGENT_WORKFLOW,
    OUTCOMES_SIGNAL,
    SCOREBOARD_QUERY,
    SCOREBOARD_WORKFLOW,
)
from perdure.contracts.run import RunInput
from perdure.contracts.scores import Outcome, OutcomeBatch, ScoreboardQuery, ScoreboardState, ScoreTable
from perdure.errors import InvalidInputError

_TIMEOUT = timedelta(seconds=10)
_TASK_TIMEOUT = timedelta(seconds=3)
_MAX_NOTE_CHARS = 2000


async def read_table(client: Client, scoreboard: str, kind: str | None) -> ScoreTable:
    """Return the rows of a scoreboard; none while there is no scoreboard."""
    handle: WorkflowHandle[Any, Any] = client.get_workflow_handle(scoreboard)
    query = ScoreboardQuery(of_kind=kind)
    try:
        return await handle.query(SCOREBOARD_QUERY, query, result_type=ScoreTable, rpc_timeout=_TIMEOUT)
    except RPCError as error:
        if error.status == RPCStatusCode.NOT_FOUND:
            return ScoreTable()
        raise


def check_score(score: float) -> None:
    """Raise InvalidInputError unless a score can be used."""
    if not (math.isfinite(score) and 0 <= score <= 1):
        raise InvalidInputError(f"The score is {score:g}: it should be between 0 (bad) and 1 (good).")


async def judged(client: Client, workflow_id: str, score: float, note: str) -> Outcome:
    """Return a person's judgement of a run, with the agent and the kind of work.

    Raises:
        RunNotFoundError: There is no such run. Not retryable.
        InvalidInputError: It is no run of an agent, or the score can't be used. Not retryable.
    """
    check_score(score)
    described = await describe(client, workflow_id)
    workflow = described.workflow_execution_info.type.name
    if workflow != AGENT_WORKFLOW:
        raise InvalidInputError(
            f"The run {workflow_id!r} is a {workflow}, and only an agent's run can be scored: `perdure show "
            f"{workflow_id}` names the runs that it started."
        )
    request = await _input(client, workflow_id, described.workflow_execution_info.execution.run_id)
    return Outcome(agent=request.agent, kind=request.task_kind, score=score, note=note[:_MAX_NOTE_CHARS])


async def _input(client: Client, workflow_id: str, run_id: str) -> RunInput:
    """Return what a run was started with, from the first event of its history."""
    handle = client.get_workflow_handle(workflow_id, run_id=run_id)
    try:
        async for event in handle.fetch_history_events(page_size=1):
            assert event.event_type == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED
            payloads = list(event.workflow_execution_started_event_attributes.input.payloads)
            return (await client.data_converter.decode(payloads[:1], [RunInput]))[0]
    except RPCError as error:
        raise not_found(error, workflow_id) from None
    raise AssertionError("a history begins with the workflow's start")


async def send_judgement(client: Client, scoreboard: str, task_queue: str, outcome: Outcome) -> None:
    """Send a judgement to the scoreboard, and start it where there is none. No worker is needed for that."""
    await client.start_workflow(
        SCOREBOARD_WORKFLOW,
        ScoreboardState(),
        id=scoreboard,
        task_queue=task_queue,
        task_timeout=_TASK_TIMEOUT,
        start_signal=OUTCOMES_SIGNAL,
        start_signal_args=[OutcomeBatch(id=uuid4().hex[:16], outcomes=(outcome,))],
        static_summary="What became of work, by kind and agent",
    )
