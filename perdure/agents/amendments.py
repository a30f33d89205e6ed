"""Changes to a plan at work: what the plan is then, and what keeps a change from being made. Both sides; pure."""

from collections.abc import Collection, Iterator, Mapping

from perdure.agents.plans import check_plan
from perdure.contracts.plan import Plan, PlanAmendment, PlanFault, TaskState
from perdure.errors import suggest

_FIXED = ("running", "done", "cancelled")


def amended(plan: Plan, amendment: PlanAmendment) -> Plan:
    """Return the plan with an amendment applied; new tasks come last."""
    changed = {task.id: task for task in amendment.tasks}
    kept = [changed.pop(task.id, task) for task in plan.tasks if task.id not in amendment.drop]
    return plan.model_copy(update={"tasks": (*kept, *changed.values())})


def check_amendment(
    plan: Plan,
    amendment: PlanAmendment,
    states: Mapping[str, TaskState],
    known_agents: Collection[str] | None,
    known_verifiers: Collection[str] | None = None,
) -> list[PlanFault]:
    """Return every fault of an amendment, and of the plan with it. Paths are those of the amendment.

    Args:
        plan: The plan at work.
        amendment: What is to change.
        states: Of the tasks of the plan.
        known_agents: Names of the agents that there are; None when that isn't known, and isn't checked.
        known_verifiers: Names of what can judge results, likewise.
    """
    faults = [*_state_faults(amendment, states)]
    positions = {task.id: index for index, task in enumerate(amendment.tasks)}
    merged = amended(plan, amendment)
    for fault in check_plan(merged, known_agents, known_verifiers):
        faults.append(fault.model_copy(update={"path": _moved(fault, merged, positions)}))
    return faults


def _state_faults(amendment: PlanAmendment, states: Mapping[str, TaskState]) -> Iterator[PlanFault]:
    seen: set[str] = set()
    for index, task in enumerate(amendment.tasks):
        where = ("tasks", index, "id")
        if task.id in seen:
            yield PlanFault(message=f"There are several tasks {task.id!r}: rename all but one.", path=where)
        seen.add(task.id)
        if states.get(task.id) in _FIXED:
            message = f"Task {task.id!r} is {states[task.id]}: it can't be changed any more."
            yield PlanFault(message=message, path=where)
    for index, name in enumerate(amendment.drop):
        where = ("drop", index)
        if name not in states:
            message = f"There is no task {name!r} to drop.{suggest(name, states)}"
            yield PlanFault(message=message, path=where)
        elif states[name] in _FIXED:
            yield PlanFault(message=f"Task {name!r} is {states[name]}: it can't be dropped any more.", path=where)
        elif name in seen:
            yield PlanFault(message=f"Task {name!r} is both dropped and changed.", path=where)


def _moved(fault: PlanFault, merged: Plan, positions: Mapping[str, int]) -> tuple[str | int, ...]:
    """Return where in the amendment a fault of the whole is: nowhere, when it is in a task that stays."""
    match fault.path:
        case ("tasks", int(index), *rest) if merged.tasks[index].id in positions:
            return ("tasks", positions[merged.tasks[index].id], *rest)
        case _:
            return ()
