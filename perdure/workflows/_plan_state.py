"""`PlanState`: which task may start, and what an end of one means for the others. Workflow side; pure.

It decides and remembers; starting, waiting and cancelling are up to `plans`. The plan was checked before.
"""

from collections.abc import Iterable
from heapq import heappop, heappush

from pydantic import JsonValue
from pydantic_core import to_json

from perdure.contracts.plan import (
    Plan,
    PlanResult,
    PlanStatus,
    RetryWith,
    Task,
    TaskFailure,
    TaskResult,
    TaskState,
)
from perdure.contracts.references import Reference, follow, references, render


class PlanState:
    """The state of every task of a plan.

    Of several tasks that may start, the one with the longest chain of tasks behind it is first: that chain is what
    the plan's time depends on.

    Attributes:
        failed: The failure that ends the plan; None while there is none.
    """

    def __init__(self, plan: Plan) -> None:
        """Let what needs nothing start."""
        self.failed: TaskFailure | None = None
        self._title = plan.title
        self._tasks = {task.id: task for task in plan.tasks}
        self._results = {task.id: TaskResult(id=task.id, agent=task.agent) for task in plan.tasks}
        self._missing = {task.id: set(task.needs) for task in plan.tasks}
        self._dependents = _dependents(plan.tasks)
        self._rank = _ranks(self._tasks, self._dependents)
        self._is_stopping = False
        self._ready: list[tuple[tuple[int, int], str]] = []
        for task in plan.tasks:
            if not task.needs:
                self._make_ready(task.id)

    def task(self, name: str) -> Task:
        """Return a task as it was planned."""
        return self._tasks[name]

    def take(self) -> str | None:
        """Return the task to start next, and count it as running; None when none may start now."""
        if self._is_stopping or not self._ready:
            return None
        name = heappop(self._ready)[1]
        self._update(name, state="running", attempts=self._results[name].attempts + 1)
        return name

    def agent_of(self, name: str) -> str:
        """Return who does a task now."""
        return self._results[name].agent

    def note_choice(self, name: str, agent: str, chosen_by: str) -> None:
        """Remember the agent that was chosen for a task, and why."""
        self._update(name, agent=agent, chosen_by=chosen_by)

    def attempt_of(self, name: str) -> int:
        """Return which attempt at a task runs, from 1."""
        return self._results[name].attempts

    def note_run(self, name: str, workflow_id: str) -> None:
        """Remember the run that does a task."""
        self._update(name, workflow_id=workflow_id)

    def finish(self, name: str, output: JsonValue, *, is_apart: bool = False) -> None:
        """Enter a result, and let start what waited for it."""
        self._update(name, state="done", output=output, is_output_apart=is_apart)
        self._release(name)

    def fail(self, name: str, failure: TaskFailure) -> None:
        """Enter a failure, and do what the task's policy says."""
        policy = self._tasks[name].on_error
        if isinstance(policy, RetryWith):
            if self._results[name].attempts == 1 and not self._is_stopping:
                self._update(name, state="waiting", agent=policy.retry_with, chosen_by="")
                self._make_ready(name)
                return
            policy = policy.then
        self._update(name, state="failed", failure=failure)
        if policy == "continue":
            self._release(name)
        elif policy == "skip_dependents":
            self._skip(self._dependents[name])
        elif self.failed is None:
            self.failed = failure

    def cancel(self, name: str) -> None:
        """Enter that a task was cancelled with the plan."""
        self._update(name, state="cancelled")

    def stop(self) -> None:
        """Let no task start any more: what has not started is skipped."""
        self._is_stopping = True
        self._skip([name for name, each in self._results.items() if each.state == "waiting"])

    def outputs_apart(self, name: str) -> list[str]:
        """Return the tasks whose outputs must be read before `name` can be given its input."""
        wanted = dict.fromkeys(each.task for each in references(self._tasks[name].input)[0])
        return [each for each in wanted if self._results[each].is_output_apart]

    def run_of(self, name: str) -> str:
        """Return the workflow id of the run that did a task."""
        return self._results[name].workflow_id

    def input_of(self, name: str, read: dict[str, JsonValue]) -> str:
        """Return the input of a task, with the results that it refers to.

        Args:
            name: The task.
            read: Outputs of the tasks in `outputs_apart`.

        Raises:
            LookupError: It refers to a field that an output hasn't.
        """

        def value_of(reference: Reference) -> JsonValue:
            result = self._results[reference.task]
            if result.failure is not None:
                return {"error": result.failure.model_dump(mode="json")}
            output = read[reference.task] if result.is_output_apart else result.output
            try:
                return follow(output, reference.path)
            except LookupError as error:
                raise LookupError(f"{reference.text} of its input: {error}") from None

        return render(self._tasks[name].input, value_of)

    def by_state(self) -> dict[TaskState, list[str]]:
        """Return the tasks in each state that there is."""
        found: dict[TaskState, list[str]] = {}
        for name, each in self._results.items():
            found.setdefault(each.state, []).append(name)
        return found

    def status(self, number: int) -> PlanStatus:
        """Return every task without its output."""
        tasks = [each.model_copy(update={"output": None}) for each in self.result().tasks]
        return PlanStatus(number=number, title=self._title, tasks=tuple(tasks))

    def result(self, max_bytes: int | None = None) -> PlanResult:
        """Return what became of every task.

        Args:
            max_bytes: For the outputs together; the largest are left out until they fit.
        """
        results = [
            each.model_copy(update={"waits_for": self._waits_for(each.id)}) for each in self._results.values()
        ]
        if max_bytes is not None:
            apart = _largest(results, max_bytes)
            update = {"output": None, "is_output_apart": True}
            results = [each.model_copy(update=update) if each.id in apart else each for each in results]
        return PlanResult(tasks=tuple(results))

    def _waits_for(self, name: str) -> tuple[str, ...]:
        if self._results[name].state != "waiting":
            return ()
        return tuple(need for need in self._tasks[name].needs if need in self._missing[name])

    def _update(self, name: str, **changes: object) -> None:
        self._results[name] = self._results[name].model_copy(update=changes)

    def _make_ready(self, name: str) -> None:
        heappush(self._ready, (self._rank[name], name))

    def _release(self, name: str) -> None:
        for dependent in self._dependents[name]:
            missing = self._missing[dependent]
            missing.discard(name)
            if not missing and self._results[dependent].state == "waiting":
                self._make_ready(dependent)

    def _skip(self, names: Iterable[str]) -> None:
        """Skip these, and what needs them. None of them is ready: each waits for one that failed or is skipped."""
        waiting = list(names)
        for name in waiting:  # grows as it goes
            if self._results[name].state == "waiting":
                self._update(name, state="skipped")
                waiting.extend(self._dependents[name])


def _dependents(tasks: Iterable[Task]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {task.id: [] for task in tasks}
    for task in tasks:
        for need in task.needs:
            found[need].append(task.id)
    return found


def _ranks(tasks: dict[str, Task], dependents: dict[str, list[str]]) -> dict[str, tuple[int, int]]:
    """Return a key for each task by which the first to start is the smallest."""
    missing = {name: len(task.needs) for name, task in tasks.items()}
    order = [name for name, number in missing.items() if number == 0]
    for name in order:  # grows as it goes
        for dependent in dependents[name]:
            missing[dependent] -= 1
            if missing[dependent] == 0:
                order.append(dependent)
    height: dict[str, int] = {}
    for name in reversed(order):
        height[name] = 1 + max((height[each] for each in dependents[name]), default=0)
    return {name: (-height[name], index) for index, name in enumerate(tasks)}


def _largest(results: Iterable[TaskResult], max_bytes: int) -> set[str]:
    """Return the tasks with the largest outputs, as many as must go for the rest to fit."""
    sizes = {each.id: len(to_json(each.output)) for each in results}
    total = sum(sizes.values())
    found: set[str] = set()
    for name in sorted(sizes, key=lambda name: -sizes[name]):
        if total <= max_bytes:
            break
        total -= sizes[name]
        found.add(name)
    return found
