"""The plan of a run, as inputs, planners' answers and updates tell of it. Client side.

A plan that workflow code made itself is in no history, and is not known here.
"""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from pydantic import ValidationError
from temporalio.api.common.v1 import Payload

from perdure.agents.amendments import amended
from perdure.client._timeline.reading import Reading
from perdure.contracts.names import AMEND_PLAN_UPDATE, PLAN_VERIFIER, PLAN_WORKFLOW
from perdure.contracts.plan import AmendPlanRequest, Plan, PlanAmendment, PlanRunInput
from perdure.contracts.run import RunInput, RunResult


async def note_input(run: Reading, workflow: str, payloads: Sequence[Payload]) -> None:
    """Take the plan that a run was started with."""
    if workflow == PLAN_WORKFLOW:
        request = await run.decode(payloads, PlanRunInput)
        run.plan = request.plan if request is not None else None


def note_planner(run: Reading, event_id: int, request: RunInput | None) -> None:
    """Remember a child run that writes a plan, or changes one."""
    if request is not None and request.verify == PLAN_VERIFIER:
        run.planners.add(event_id)


def note_answer(run: Reading, event_id: int, result: Any) -> None:
    """Take what a planner wrote: the first one's plan, then changes to it."""
    if event_id not in run.planners or not isinstance(result, RunResult):
        return
    with suppress(ValidationError):
        written = Plan.model_validate(result.output)
        run.plan = written if run.plan is None else amended(run.plan, PlanAmendment(tasks=written.tasks))


async def note_update(run: Reading, event_id: int, name: str, payloads: Sequence[Payload]) -> None:
    """Remember a change that somebody asked for."""
    if name == AMEND_PLAN_UPDATE:
        request = await run.decode(payloads, AmendPlanRequest)
        if request is not None:
            run.amendments[event_id] = request.amendment


def note_applied(run: Reading, event_id: int) -> None:
    """Make a change that was asked for: the run has made it."""
    amendment = run.amendments.pop(event_id, None)
    if amendment is not None and run.plan is not None:
        run.plan = amended(run.plan, amendment)
