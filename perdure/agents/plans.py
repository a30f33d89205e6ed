"""`check_plan`: everything that is wrong with a plan, before any of it runs. Both sides; pure."""

from collections.abc import Collection, Iterator, Sequence

from perdure.agents._names import is_name
from perdure.contracts.plan import AUTO, MAX_TASKS, Plan, PlanFault, RetryWith, Task
from perdure.contracts.references import ARTIFACTS, Reference, references
from perdure.errors import InvalidPlanError, suggest


def check_plan(
    plan: Plan, known_agents: Collection[str] | None, known_verifiers: Collection[str] | None = None
) -> list[PlanFault]:
    """Return every fault of a plan, in its order; none for one that can be executed.

    Args:
        plan: The plan.
        known_agents: Names of the agents that there are; None when that isn't known, and isn't checked.
        known_verifiers: Names of what can judge results, likewise.
    """
    tasks = plan.tasks
    if not tasks:
        return [PlanFault(message="The plan has no tasks.", path=("tasks",))]
    faults: list[PlanFault] = []
    if len(tasks) > MAX_TASKS:
        faults.append(
            PlanFault(message=f"The plan has {len(tasks)} tasks, more than {MAX_TASKS}.", path=("tasks",))
        )
    by_id = {task.id: task for task in reversed(tasks)}
    above = _ancestors(by_id)
    seen: set[str] = set()
    faults.extend(_planner_faults(plan, known_agents))
    faults.extend(_artifact_faults(tasks))
    for index, task in enumerate(tasks):
        faults.extend(_id_faults(index, task, seen))
        faults.extend(_agent_faults(index, task, known_agents))
        faults.extend(_verifier_faults(index, task, known_verifiers))
        faults.extend(_need_faults(index, task, by_id))
        faults.extend(_reference_faults(index, task, by_id, above))
        seen.add(task.id)
    faults.extend(_cycle_faults(tasks, by_id, above))
    return faults


def invalid_plan(faults: Sequence[PlanFault], *, what: str = "The plan") -> InvalidPlanError:
    """Return the error that tells all of these."""
    return InvalidPlanError(
        listed_faults(faults, what=what),
        faults=[fault.model_dump(mode="json") for fault in faults],
    )


def listed_faults(faults: Sequence[PlanFault], *, what: str = "The plan") -> str:
    """Return all of these in a text."""
    listed = "\n".join(f"- {fault.message}" for fault in faults)
    number = "a fault" if len(faults) == 1 else f"{len(faults)} faults"
    return f"{what} has {number}:\n{listed}"


def _id_faults(index: int, task: Task, seen: Collection[str]) -> Iterator[PlanFault]:
    where = ("tasks", index, "id")
    if not is_name(task.id):
        yield PlanFault(
            message=f"Task id {task.id!r} can't be used: a letter, then up to 63 letters, digits, _ or -.",
            path=where,
        )
    if task.id == ARTIFACTS:
        yield PlanFault(
            message=f"No task can have the id {ARTIFACTS!r}: artifacts are referred to by it.", path=where
        )
    if task.id in seen:
        yield PlanFault(message=f"There are several tasks {task.id!r}: rename all but one.", path=where)


def agents_of(task: Task) -> tuple[str, ...]:
    """Return the agents that a task names: its own, those it is chosen from, and who tries next."""
    own = () if task.agent == AUTO else (task.agent,)
    other = (task.on_error.retry_with,) if isinstance(task.on_error, RetryWith) else ()
    return (*own, *task.candidates, *other)


def _agent_faults(index: int, task: Task, known: Collection[str] | None) -> Iterator[PlanFault]:
    named: list[tuple[str, tuple[str | int, ...]]] = []
    if task.agent != AUTO:
        named.append((task.agent, ("tasks", index, "agent")))
        if task.candidates or task.select is not None:
            where = ("tasks", index, "candidates" if task.candidates else "select")
            message = f"Task {task.id!r} names its agent, and so none is chosen: write agent: {AUTO}."
            yield PlanFault(message=message, path=where)
    named.extend((name, ("tasks", index, "candidates", place)) for place, name in enumerate(task.candidates))
    if isinstance(task.on_error, RetryWith):
        named.append((task.on_error.retry_with, ("tasks", index, "on_error", "retry_with")))
    for name, where in named:
        if known is not None and name not in known:
            message = f"Task {task.id!r}: there is no agent {name!r}.{suggest(name, known)}"
            yield PlanFault(message=message, path=where)


def _planner_faults(plan: Plan, known: Collection[str] | None) -> Iterator[PlanFault]:
    if plan.planner and known is not None and plan.planner not in known:
        message = f"The planner: there is no agent {plan.planner!r}.{suggest(plan.planner, known)}"
        yield PlanFault(message=message, path=("planner",))
    if plan.planner:
        return
    for index, task in enumerate(plan.tasks):
        if final_policy(task) == "replan":
            yield PlanFault(
                message=f"Task {task.id!r} is to be replanned when it fails, and the plan names no planner: "
                "add `planner: AGENT`.",
                path=("tasks", index, "on_error"),
            )


def final_policy(task: Task) -> str:
    """Return what holds when a task failed and no other agent is to try it."""
    return task.on_error.then if isinstance(task.on_error, RetryWith) else task.on_error


def _verifier_faults(index: int, task: Task, known: Collection[str] | None) -> Iterator[PlanFault]:
    if task.verify and known is not None and task.verify not in known:
        message = f"Task {task.id!r}: there is no verifier {task.verify!r}.{suggest(task.verify, known)}"
        yield PlanFault(message=message, path=("tasks", index, "verify"))


def _artifact_faults(tasks: Sequence[Task]) -> Iterator[PlanFault]:
    made_by: dict[str, str] = {}
    for index, task in enumerate(tasks):
        for position, name in enumerate(task.produces):
            where = ("tasks", index, "produces", position)
            if not is_name(name):
                yield PlanFault(
                    message=f"Task {task.id!r}: the artifact {name!r} can't be named so: a letter, then up to 63 "
                    "letters, digits, _ or -.",
                    path=where,
                )
            elif name in made_by:
                other = made_by[name]
                yield PlanFault(
                    message=f"Task {task.id!r} produces {name!r}, and so does {other!r}: rename one.", path=where
                )
            made_by.setdefault(name, task.id)


def _need_faults(index: int, task: Task, by_id: dict[str, Task]) -> Iterator[PlanFault]:
    for position, need in enumerate(task.needs):
        where = ("tasks", index, "needs", position)
        if need == task.id:
            yield PlanFault(message=f"Task {task.id!r} needs itself.", path=where)
        elif need not in by_id:
            message = f"Task {task.id!r} needs {need!r}, and there is no such task.{_near(need, by_id)}"
            yield PlanFault(message=message, path=where)
        elif need in task.needs[:position]:
            yield PlanFault(message=f"Task {task.id!r} names its need {need!r} twice.", path=where)


def _reference_faults(
    index: int, task: Task, by_id: dict[str, Task], above: dict[str, frozenset[str]]
) -> Iterator[PlanFault]:
    where = ("tasks", index, "input")
    needed = frozenset(task.needs).union(*(above.get(need, frozenset()) for need in task.needs))
    found, bad = references(task.input)
    for text in bad:
        yield PlanFault(
            message=(
                f"Task {task.id!r}: {text!r} is no reference: write {{{{task}}}} or {{{{task.field}}}}, "
                "and \\{{ for two plain braces."
            ),
            path=where,
        )
    yield from _artifact_reference_faults(index, task, found, by_id, needed)
    for name in dict.fromkeys(each.task for each in found if each.artifact is None):
        if name not in by_id:
            message = f"Task {task.id!r} refers to {name!r}, and there is no such task.{_near(name, by_id)}"
            yield PlanFault(message=message, path=where)
        elif name == task.id:
            yield PlanFault(message=f"Task {task.id!r} refers to its own result.", path=where)
        elif name not in needed:
            message = (
                f"Task {task.id!r} refers to the result of {name!r}, which it does not need: add it to needs."
            )
            yield PlanFault(message=message, path=where)


def _artifact_reference_faults(
    index: int, task: Task, found: Sequence[Reference], by_id: dict[str, Task], needed: Collection[str]
) -> Iterator[PlanFault]:
    made_by = {name: each.id for each in by_id.values() for name in each.produces}
    for name in dict.fromkeys(each.artifact for each in found if each.artifact is not None):
        if name not in made_by:
            message = f"Task {task.id!r} refers to the artifact {name!r}, and no task produces it."
            message += suggest(name, made_by)
        elif made_by[name] == task.id:
            message = f"Task {task.id!r} refers to its own artifact {name!r}."
        elif made_by[name] not in needed:
            message = (
                f"Task {task.id!r} refers to the artifact {name!r} of {made_by[name]!r}, which it does not need"
            )
            message += ": add it to needs."
        else:
            continue
        yield PlanFault(message=message, path=("tasks", index, "input"))


def _near(name: str, by_id: dict[str, Task]) -> str:
    return suggest(name, filter(is_name, by_id))


def _ancestors(by_id: dict[str, Task]) -> dict[str, frozenset[str]]:
    """Return what each task needs, at any distance; in a cycle, a task needs itself."""
    found: dict[str, frozenset[str]] = {}
    for name in by_id:
        reached: set[str] = set()
        waiting = list(by_id[name].needs)
        while waiting:
            need = waiting.pop()
            if need in by_id and need not in reached:
                reached.add(need)
                if need in found:
                    reached.update(found[need])
                else:
                    waiting.extend(by_id[need].needs)
        found[name] = frozenset(reached)
    return found


def _cycle_faults(
    tasks: Sequence[Task], by_id: dict[str, Task], above: dict[str, frozenset[str]]
) -> Iterator[PlanFault]:
    """Name one shortest cycle of each group of tasks that wait for each other."""
    told: set[str] = set()
    for index, task in enumerate(tasks):
        if task.id in told or task.id not in above[task.id]:
            continue
        group = {task.id} | {other for other in above[task.id] if task.id in above[other]}
        told |= group
        if len(group) > 1:
            path = " → ".join(_cycle(task.id, by_id, group))
            yield PlanFault(message=f"Tasks wait for each other: {path}.", path=("tasks", index, "needs"))


def _cycle(start: str, by_id: dict[str, Task], group: Collection[str]) -> list[str]:
    """Return the shortest way from a task over its needs back to it."""
    came_from: dict[str, str] = {}
    waiting = [start]
    for name in waiting:  # grows as it goes
        for need in by_id[name].needs:
            if need == start and name != start:
                path = [start]
                while name != start:
                    path.insert(1, name)
                    name = came_from[name]
                return [*path, start]
            if need in group and need not in came_from and need != start:
                came_from[need] = name
                waiting.append(need)
    raise AssertionError(f"{start} is in no cycle")
