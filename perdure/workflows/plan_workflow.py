"""`PlanWorkflow`: a plan as a run of its own. Workflow side; outside of the sandbox, as `AgentWorkflow` is."""

from pydantic import ValidationError
from temporalio import workflow

from perdure.contracts.names import PLAN_WORKFLOW
from perdure.contracts.plan import PlanResult, PlanRunInput
from perdure.errors import PerdureError
from perdure.workflows._guard import typed_failures
from perdure.workflows._plan_state import PlanState
from perdure.workflows.plans import execute_plan

_MAX_RESULT_BYTES = 1_000_000


@workflow.defn(name=PLAN_WORKFLOW, sandboxed=False, failure_exception_types=[PerdureError, ValidationError])
class PlanWorkflow:
    """Executes a plan that somebody wrote."""

    @workflow.run
    async def run(self, request: PlanRunInput) -> PlanResult:
        """Return what became of every task; outputs that don't fit into 1 MB are left in their runs."""
        with typed_failures():
            state = await execute_plan(request.plan, max_parallel=request.max_parallel, on_change=self._show)
            return state.result(_MAX_RESULT_BYTES)

    def _show(self, state: PlanState) -> None:
        """Write the run's details for the web UI, in Markdown."""
        found = state.by_state()
        counts = " · ".join(f"{len(names)} {each}" for each, names in found.items())
        running = found.get("running", [])
        at_work = f"\n\nat work: {', '.join(running[:20])}{' …' if len(running) > 20 else ''}" if running else ""
        workflow.set_current_details(counts + at_work)
