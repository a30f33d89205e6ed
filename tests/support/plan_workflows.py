"""A workflow of a user's own that executes plans, in the sandbox."""

from temporalio import workflow

from perdure.contracts.plan import Plan, PlanResult
from perdure.errors import InvalidPlanError, PlanFailed
from perdure.workflows import run_plan


@workflow.defn
class TwoPlans:
    """Executes a plan twice; what goes wrong is told."""

    @workflow.run
    async def run(self, first: Plan, second: Plan) -> list[PlanResult | str]:
        told: list[PlanResult | str] = []
        for plan in (first, second):
            try:
                told.append(await run_plan(plan, max_parallel=2))
            except (InvalidPlanError, PlanFailed) as error:
                told.append(f"{error.type}: {error.message}")
        return told
