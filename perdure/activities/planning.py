"""Activities that judge plans by the agents of the worker. Activity side."""

from typing import Any

from pydantic import ValidationError
from temporalio import activity

from perdure.agents.amendments import check_amendment
from perdure.agents.plans import check_plan, listed_faults
from perdure.agents.registry import Registry
from perdure.contracts.calls import Verdict
from perdure.contracts.names import CHECK_PLAN, DESCRIBE_AGENTS, PLAN_CONTEXT
from perdure.contracts.plan import (
    AgentCard,
    CheckPlanRequest,
    CheckPlanResult,
    DescribeAgentsResult,
    Plan,
    PlanAmendment,
    PlanFault,
    TaskResult,
    TaskState,
)
from perdure.contracts.spec import AgentSpec


class PlanActivities:
    """Checks plans."""

    def __init__(self, *, registry: Registry) -> None:
        """Know the agents."""
        self._registry = registry

    @activity.defn(name=CHECK_PLAN)
    async def check_plan(self, request: CheckPlanRequest) -> CheckPlanResult:
        """Return every fault of a plan, or of an amendment to it; none when it can be executed."""
        agents, verifiers = self._registry.agents, self._registry.verifiers
        if request.amendment is None:
            faults = check_plan(request.plan, agents, verifiers)
        else:
            states: dict[str, TaskState] = {each.id: each.state for each in request.tasks}
            faults = check_amendment(request.plan, request.amendment, states, agents, verifiers)
        return CheckPlanResult(faults=tuple(faults), agents=tuple(agents), verifiers=tuple(verifiers))

    @activity.defn(name=DESCRIBE_AGENTS)
    async def describe_agents(self, planner: str) -> DescribeAgentsResult:
        """Return the agents that a planner can give tasks to, and the verifiers."""
        cards = [
            AgentCard(name=agent.name, description=agent.description)
            for agent in self._registry.agents.values()
            if agent.name != planner and agent.output not in (Plan, Verdict)
        ]
        return DescribeAgentsResult(agents=tuple(cards), verifiers=tuple(self._registry.verifiers))


def judge_plan(registry: Registry, spec: AgentSpec, output: Any) -> Verdict:
    """Say whether a planner's answer is a plan that can be executed, or applied to the one that it was told of."""
    try:
        plan = Plan.model_validate(output)
        base = (spec.context or {}).get(PLAN_CONTEXT)
        faults = _plan_faults(registry, spec.name, plan) if base is None else _change_faults(registry, plan, base)
    except ValidationError as error:
        told = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors())
        return Verdict(accept=False, reason=f"It is no plan: {told}.")
    return Verdict(accept=not faults, reason=listed_faults(faults) if faults else "")


def _plan_faults(registry: Registry, planner: str, plan: Plan) -> list[PlanFault]:
    named = plan if plan.planner else plan.model_copy(update={"planner": planner})
    return check_plan(named, registry.agents, registry.verifiers)


def _change_faults(registry: Registry, plan: Plan, base: Any) -> list[PlanFault]:
    states: dict[str, TaskState] = {each.id: each.state for each in map(TaskResult.model_validate, base["tasks"])}
    amendment = PlanAmendment(tasks=plan.tasks)
    return check_amendment(
        Plan.model_validate(base["plan"]), amendment, states, registry.agents, registry.verifiers
    )
