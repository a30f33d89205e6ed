"""`run_plan` and what goes with it: a plan's tasks, each in a run of its own. Workflow side."""

from collections.abc import Callable

from temporalio import workflow

from perdure.agents.plans import invalid_plan
from perdure.contracts.plan import CheckPlanRequest, CheckPlanResult, Plan, PlanResult
from perdure.errors import InvalidInputError
from perdure.workflows._calls import check_plan
from perdure.workflows._guard import typed_activity_failure
from perdure.workflows._host import current_host
from perdure.workflows._plan_execution import Execution
from perdure.workflows._plan_state import PlanState
from perdure.workflows._planning import ask_planner, ask_synthesiser

MAX_PARALLEL = 50
_MAX_PARALLEL = 200


async def run_plan(plan: Plan, *, max_parallel: int | None = None, goal: str = "") -> PlanResult:
    """Execute a plan: each task is a child run, and starts the moment that its needs are over.

    Cancelling the workflow cancels every task at work, and waits for the end of each.

    Args:
        plan: At most 1000 tasks.
        max_parallel: Tasks at work at once, 1 to 200; the plan's own when None, and 50 when it has none.
        goal: What the plan is for, for its planner; the plan's title when empty.

    Returns:
        What became of every task. Where a task's policy is not `fail`, look for `failures`.

    Raises:
        InvalidPlanError: The plan can't be executed; nothing has run. It tells every fault. Not retryable.
        PlanFailed: A task failed whose policy is `fail`. The others were cancelled, and are over. Not retryable.
    """
    state = await execute_plan(plan, max_parallel=max_parallel, goal=goal, on_change=lambda _: None)
    return state.result()


async def write_plan(goal: str, *, planner: str) -> Plan:
    """Have an agent write a plan, whose agents and references are checked inside its run.

    An invalid plan goes back to the agent with all its faults, as often as its limit `max_rejections` says.

    Args:
        goal: What the plan is for; the agent is told which agents there are, and how plans work.
        planner: An agent with `output=Plan`. It is also the one that replans, unless the plan names another.

    Raises:
        RunError: How the planner's run ended: `UnexpectedModelBehavior` if its plans stay invalid. Not retryable.
    """
    return await ask_planner(goal, planner)


async def plan_and_run(
    goal: str, *, planner: str, synthesiser: str = "", max_parallel: int | None = None
) -> PlanResult:
    """Have a plan written, execute it, and have an agent answer from the results.

    Args:
        goal: What all of them are asked.
        planner: Writes the plan, as for `write_plan`.
        synthesiser: Gives `PlanResult.answer`; nobody when empty.
        max_parallel: As for `run_plan`.

    Raises:
        RunError: The planner's run or the synthesiser's failed. Not retryable.
        InvalidPlanError, PlanFailed: As for `run_plan`. Not retryable.
    """
    plan = await write_plan(goal, planner=planner)
    result = await run_plan(plan, max_parallel=max_parallel, goal=goal)
    return await ask_synthesiser(goal, synthesiser, result) if synthesiser else result


async def execute_plan(
    plan: Plan, *, max_parallel: int | None, goal: str, on_change: Callable[[PlanState], None]
) -> PlanState:
    """Do what `run_plan` does, and tell of each change. Raises what `run_plan` does."""
    at_once = max_parallel or plan.max_parallel or MAX_PARALLEL
    if not 1 <= at_once <= _MAX_PARALLEL:
        raise InvalidInputError(f"max_parallel is {at_once}: it should be between 1 and {_MAX_PARALLEL}.")
    known = await _check(plan)
    host = current_host()
    state = PlanState(plan)
    work = Execution(
        state, number=host.number("plan "), known=known, goal=goal, max_parallel=at_once, on_change=on_change
    )
    host.add_plan(work)
    try:
        await work.run()
    finally:
        await workflow.wait_condition(workflow.all_handlers_finished)
    return state


async def _check(plan: Plan) -> CheckPlanResult:
    with typed_activity_failure():
        known = await check_plan(CheckPlanRequest(plan=plan))
    if known.faults:
        raise invalid_plan(known.faults)
    return known
