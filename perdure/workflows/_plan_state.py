"""`PlanState`: which task may start, and what an end of one means for the others. Workflow side; pure.

It decides and remembers; starting, waiting and cancelling are up to `plans`. The plan was checked before.
"""

from collections.abc import Iterable, Sequence
from heapq import heappop, heappush

from pydantic import JsonValue
from pydantic_core import to_json

from perdure.agents.amendments import amended
from perdure.agents.plans import final_policy
from perdure.contracts.plan import (
    ArtifactValue,
    Plan,
    PlanAmendment,
    PlanResult,
    PlanStatus,
    RetryWith,
    Task,
    TaskFailure,
    TaskResult,
    TaskState,
)
from perdure.contracts.references import Reference, follow, references, render
from perdure.contracts.texts import cut

_FAILURES_BYTES = 300_000
_MOST_A_CHAR = 6
"""Bytes that a character may take as JSON."""
_SHOWN_NEEDS = 5_000


class PlanState:
    """The state of every task of a plan.

    Of several tasks that may start, the one with the longest chain of tasks behind it is first: that chain is what
    the plan's time depends on.

    Attributes:
        failed: The failure that ends the plan; None while there is none.
        is_held: Nothing new may start: the planner may be about to replace it.
        replans: How often the planner was asked to change the plan.
    """

    def __init__(self, plan: Plan) -> None:
        """Let what needs nothing start."""
        self.failed: TaskFailure | None = None
        self.is_held = False
        self.replans = 0
        self._plan = plan
        self._tasks = {task.id: task for task in plan.tasks}
        self._results = {task.id: TaskResult(id=task.id, agent=task.agent) for task in plan.tasks}
        self._attempts: dict[str, int] = {}
        self._handed_on: set[str] = set()
        """Tasks that the agent of `retry_with` was given."""
        self._to_replan: list[str] = []
        """Failed tasks that wait for the planner; what needs them waits too."""
        self._is_stopping = False
        self._rebuild()

    @property
    def plan(self) -> Plan:
        """The plan as it is now."""
        return self._plan

    def task(self, name: str) -> Task:
        """Return a task as it was planned."""
        return self._tasks[name]

    def take(self) -> str | None:
        """Return the task to start next, and count it as running; None when none may start now."""
        if self._is_stopping or self.is_held or not self._ready:
            return None
        name = heappop(self._ready)[1]
        self._attempts[name] = self._attempts.get(name, 0) + 1
        self._update(name, state="running", attempts=self._attempts[name])
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
        if isinstance(policy, RetryWith) and name not in self._handed_on and not self._is_stopping:
            self._handed_on.add(name)
            self._update(name, state="waiting", agent=policy.retry_with, chosen_by="")
            if not self._missing[name]:  # a need may have been started again meanwhile
                self._make_ready(name)
            return
        self._update(name, state="failed", failure=failure)
        policy = final_policy(self._tasks[name])
        if policy == "replan":
            self._to_replan.append(name)
        elif policy == "continue":
            self._release(name)
        elif policy == "skip_dependents":
            self._skip(self._dependents[name])
        elif self.failed is None:
            self.failed = failure

    def amend(self, amendment: PlanAmendment) -> None:
        """Apply changes that were checked. A task that is replaced starts anew, whatever became of it."""
        for name in (*amendment.drop, *(task.id for task in amendment.tasks)):
            self._handed_on.discard(name)
            self._results.pop(name, None)
        self._plan = amended(self._plan, amendment)
        self._tasks = {task.id: task for task in self._plan.tasks}
        self._results = {task.id: self._results.get(task.id) or self._fresh(task) for task in self._plan.tasks}
        self._to_replan = [name for name in self._to_replan if self._is_in(name, "failed")]
        self._rebuild()

    def retry(self, name: str) -> None:
        """Let a failed task start again; of a skipped one, the failed ones that it was skipped for."""
        for each in self._failed_behind(name):
            self._handed_on.discard(each)
            self._results[each] = self._fresh(self._tasks[each])
        self._to_replan = [each for each in self._to_replan if self._is_in(each, "failed")]
        self._rebuild()

    def take_replan(self) -> TaskFailure | None:
        """Return the first failure that the planner must deal with, and count a replan; None when there is none.

        When the planner was asked as often as the plan allows, that failure ends the plan.
        """
        if self._is_stopping or self.is_held or not self._to_replan:
            return None
        failure = self._results[self._to_replan[0]].failure
        if self.replans >= self._plan.max_replans:
            self.failed = self.failed or failure
            return None
        self.replans += 1
        self.is_held = True
        return failure

    def end_replan(self, names: Iterable[str]) -> None:
        """Let tasks start again. Of `names`, which the planner knew, those still failed stay so, for good."""
        self.is_held = False
        known = set(names)
        self._to_replan = [name for name in self._to_replan if name not in known]
        self._rebuild()

    @property
    def to_replan(self) -> tuple[str, ...]:
        """The failed tasks that wait for the planner."""
        return tuple(self._to_replan)

    def cancel(self, name: str) -> None:
        """Enter that a task was cancelled with the plan."""
        self._update(name, state="cancelled")

    def stop(self) -> None:
        """Let no task start any more: what has not started is skipped."""
        self._is_stopping = True
        self._skip([name for name, each in self._results.items() if each.state == "waiting"])

    def outputs_apart(self, name: str) -> list[str]:
        """Return the tasks whose outputs must be read before `name` can be given its input."""
        found = references(self._tasks[name].input)[0]
        wanted = dict.fromkeys(each.task for each in found if each.artifact is None)
        return [each for each in wanted if self._results[each].is_output_apart]

    def run_of(self, name: str) -> str:
        """Return the workflow id of the run that did a task."""
        return self._results[name].workflow_id

    def missing_artifact(self, name: str, output: JsonValue) -> str | None:
        """Return an artifact that an output of a task should have and hasn't."""
        produces = self._tasks[name].produces
        if len(produces) < 2:
            return None
        return next((each for each in produces if not isinstance(output, dict) or each not in output), None)

    def artifact(self, name: str) -> ArtifactValue | None:
        """Return an artifact, or where it is; None while there is none."""
        task = next((task for task in self._plan.tasks if name in task.produces), None)
        if task is None or self._results[task.id].state != "done":
            return None
        result = self._results[task.id]
        path = () if len(task.produces) == 1 else (name,)
        if result.is_output_apart:
            return ArtifactValue(workflow_id=result.workflow_id, field="".join(path))
        return ArtifactValue(value=follow(result.output, path))

    def input_of(self, name: str, read: dict[str, JsonValue]) -> list[str | Reference]:
        """Return the input of a task, with the results that it refers to; references to artifacts stay.

        Args:
            name: The task.
            read: Outputs of the tasks in `outputs_apart`.

        Raises:
            LookupError: It refers to a field that an output hasn't.
        """

        def value_of(reference: Reference) -> JsonValue | Reference:
            result = self._results[self._source(reference)]
            if result.failure is not None:
                return {"error": result.failure.model_dump(mode="json")}
            try:
                if reference.artifact is not None:
                    found = self.artifact(reference.artifact)
                    if found is not None and not found.workflow_id:
                        follow(found.value, reference.path[1:])
                    return reference
                return follow(read[reference.task] if result.is_output_apart else result.output, reference.path)
            except LookupError as error:
                raise LookupError(f"{reference.text} of its input: {error}") from None

        return render(self._tasks[name].input, value_of)

    def _source(self, reference: Reference) -> str:
        """Return the task whose result a reference is to."""
        if reference.artifact is None:
            return reference.task
        return next(task.id for task in self._plan.tasks if reference.artifact in task.produces)

    def states(self) -> dict[str, TaskState]:
        """Return the state of each task."""
        return {name: each.state for name, each in self._results.items()}

    def by_state(self) -> dict[TaskState, list[str]]:
        """Return the tasks in each state that there is."""
        found: dict[TaskState, list[str]] = {}
        for name, each in self._results.items():
            found.setdefault(each.state, []).append(name)
        return found

    def status(self, number: int) -> PlanStatus:
        """Return every task without its output, as much of it as an update's result has room for."""
        tasks = [each.model_copy(update={"output": None}) for each in self.result().tasks]
        told = _with_short_needs(_with_short_failures(tasks))
        return PlanStatus(number=number, title=self._plan.title, tasks=tuple(told), replans=self.replans)

    def result(self, max_bytes: int | None = None) -> PlanResult:
        """Return what became of every task.

        Args:
            max_bytes: For the outputs together; the largest are left out until they fit. Failures are cut then
                so that all of them take 300 kB at most.
        """
        results = [
            each.model_copy(update={"waits_for": self._waits_for(each.id)}) for each in self._results.values()
        ]
        if max_bytes is not None:
            apart = _largest(results, max_bytes)
            update = {"output": None, "is_output_apart": True}
            results = [each.model_copy(update=update) if each.id in apart else each for each in results]
            results = _with_short_failures(results)
        return PlanResult(tasks=tuple(results))

    def _waits_for(self, name: str) -> tuple[str, ...]:
        if self._results[name].state != "waiting":
            return ()
        return tuple(need for need in self._tasks[name].needs if need in self._missing[name])

    def _update(self, name: str, **changes: object) -> None:
        self._results[name] = self._results[name].model_copy(update=changes)

    def _fresh(self, task: Task) -> TaskResult:
        return TaskResult(id=task.id, agent=task.agent, attempts=self._attempts.get(task.id, 0))

    def _is_in(self, name: str, state: TaskState) -> bool:
        return name in self._results and self._results[name].state == state

    def _rebuild(self) -> None:
        """Derive anew who waits for whom, who is skipped and who may start: from tasks and their states."""
        self._dependents = _dependents(self._plan.tasks)
        self._rank = _ranks(self._tasks, self._dependents)
        self._missing = {
            task.id: {need for need in task.needs if not self._is_met(need)} for task in self._plan.tasks
        }
        self._ready: list[tuple[tuple[int, int], str]] = []
        if self._is_stopping:  # a change that came too late
            self._skip([name for name in self._tasks if self._is_in(name, "waiting")])
            return
        for name in self._tasks:
            if self._is_in(name, "skipped"):
                self._update(name, state="waiting")
        for name in self._tasks:
            if self._is_given_up(name):
                self._skip(self._dependents[name])
        for name, missing in self._missing.items():
            if not missing and self._is_in(name, "waiting"):
                self._make_ready(name)

    def _is_met(self, need: str) -> bool:
        is_failure_enough = final_policy(self._tasks[need]) == "continue" and self._is_in(need, "failed")
        return is_failure_enough or self._is_in(need, "done")

    def _is_given_up(self, name: str) -> bool:
        """Say whether a task failed for good, so that what needs it is skipped."""
        if not self._is_in(name, "failed") or name in self._to_replan:
            return False
        return final_policy(self._tasks[name]) in ("skip_dependents", "replan")

    def _failed_behind(self, name: str) -> list[str]:
        found, waiting = list[str](), [name]
        for each in waiting:  # grows as it goes
            if self._is_in(each, "failed") and each not in found:
                found.append(each)
            elif self._is_in(each, "skipped"):
                waiting.extend(need for need in self._tasks[each].needs if need not in waiting)
        return found

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


def _with_short_failures(results: Sequence[TaskResult]) -> list[TaskResult]:
    """Return results whose failures take 300 kB together: a payload over 2 MiB would wedge the run."""
    failed = sum(each.failure is not None for each in results)
    share = _FAILURES_BYTES // max(failed, 1)
    return [
        each
        if each.failure is None or len(each.failure.message) * _MOST_A_CHAR <= share
        else each.model_copy(
            update={"failure": each.failure.model_copy(update={"message": cut(each.failure.message, share)})}
        )
        for each in results
    ]


def _with_short_needs(results: Sequence[TaskResult]) -> list[TaskResult]:
    """Return results that name so many of the tasks that they wait for as can be read."""
    if sum(len(each.waits_for) for each in results) <= _SHOWN_NEEDS:
        return list(results)
    share = max(_SHOWN_NEEDS // len(results), 1)
    return [each.model_copy(update={"waits_for": each.waits_for[:share]}) for each in results]


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
