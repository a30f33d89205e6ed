"""`PlanWorkflow`: a plan as a run of its own. Workflow side; outside of the sandbox, as `AgentWorkflow` is."""

from collections.abc import Callable
from functools import partial

from pydantic import ValidationError
from pydantic_core import to_json
from temporalio import workflow

from perdure.contracts.names import AMEND_PLAN_UPDATE, PLAN_WORKFLOW, RETRY_TASK_UPDATE
from perdure.contracts.plan import AmendPlanRequest, Plan, PlanResult, PlanRunInput, PlanStatus, RetryTaskRequest
from perdure.errors import InvalidInputError, PerdureError
from perdure.workflows._details import escaped
from perdure.workflows._guard import typed_failures
from perdure.workflows._host import Host, current_host
from perdure.workflows._plan_state import PlanState
from perdure.workflows._planning import ask_synthesiser
from perdure.workflows.plans import execute_plan, write_plan

_MAX_OUTPUT_BYTES = 1_000_000
_MAX_RESULT_BYTES = 1_900_000
"""Of all of it; Temporal's limit is 2 MiB."""
_LEAST_BYTES = 10_000
"""A thousand outputs that are none take this."""


@workflow.defn(name=PLAN_WORKFLOW, sandboxed=False, failure_exception_types=[PerdureError, ValidationError])
class PlanWorkflow:
    """Executes a plan that somebody wrote, or a planner writes, and has a synthesiser answer from it."""

    def __init__(self) -> None:
        """Nothing is at work yet."""
        self._told: Callable[[], str] = str

    @workflow.run
    async def run(self, request: PlanRunInput) -> PlanResult:
        """Return what became of every task; outputs that don't fit into 1 MB are left in their runs."""
        current_host().details = self._details
        with typed_failures():
            state = await execute_plan(
                await self._plan(request),
                max_parallel=request.max_parallel,
                goal=request.goal,
                on_change=self._show,
            )
            result = _result(state, room=_MAX_RESULT_BYTES)
            if not request.synthesiser:
                return result
            self._told = lambda: f"{escaped(request.synthesiser)} answers"
            goal = request.goal or state.plan.title
            answered = await ask_synthesiser(goal, request.synthesiser, result)
            room = _MAX_RESULT_BYTES - len(to_json(answered.answer))
            return answered.model_copy(update={"tasks": _result(state, room=room).tasks})

    async def _plan(self, request: PlanRunInput) -> Plan:
        if request.plan is not None:
            is_named = request.plan.planner or not request.planner
            return request.plan if is_named else request.plan.model_copy(update={"planner": request.planner})
        if not request.planner:
            raise InvalidInputError("PlanWorkflow needs a plan, or a planner that writes one.")
        self._told = lambda: f"{escaped(request.planner)} writes the plan"
        return await write_plan(request.goal, planner=request.planner)

    @workflow.update(name=AMEND_PLAN_UPDATE)
    async def amend(self, request: AmendPlanRequest) -> PlanStatus:
        """Change tasks that have not started."""
        return await self._host.amend(request)

    @amend.validator
    def _check_amendment(self, request: AmendPlanRequest) -> None:
        self._host.check_amendment(request)

    @workflow.update(name=RETRY_TASK_UPDATE)
    async def retry(self, request: RetryTaskRequest) -> PlanStatus:
        """Run a failed or skipped task again."""
        return await self._host.retry(request)

    @retry.validator
    def _check_retry(self, request: RetryTaskRequest) -> None:
        self._host.check_retry(request)

    @property
    def _host(self) -> Host:
        return current_host()

    def _show(self, state: PlanState) -> None:
        self._told = partial(_progress, state)

    def _details(self) -> str:
        return "\n\n".join(filter(None, (self._told(), current_host().child_runs.told())))


def _progress(state: PlanState) -> str:
    """Return how a plan stands."""
    title = f"**{escaped(state.plan.title)}** · " if state.plan.title else ""
    return title + " · ".join(f"{len(names)} {each}" for each, names in state.by_state().items())


def _result(state: PlanState, *, room: int) -> PlanResult:
    """Return what became of every task in so many bytes: outputs have what the rest leaves of them."""
    rest = len(state.result(0).to_bytes())
    return state.result(min(_MAX_OUTPUT_BYTES, max(room - rest, _LEAST_BYTES)))
