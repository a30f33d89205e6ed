"""The activity that checks a plan against the agents of the worker. Activity side."""

from temporalio import activity

from perdure.agents.plans import check_plan
from perdure.agents.registry import Registry
from perdure.contracts.names import CHECK_PLAN
from perdure.contracts.plan import CheckPlanRequest, CheckPlanResult


class PlanActivities:
    """Checks plans."""

    def __init__(self, *, registry: Registry) -> None:
        """Know the agents."""
        self._registry = registry

    @activity.defn(name=CHECK_PLAN)
    async def check_plan(self, request: CheckPlanRequest) -> CheckPlanResult:
        """Return every fault of a plan; none when it can be executed."""
        return CheckPlanResult(faults=tuple(check_plan(request.plan, self._registry.agents)))
