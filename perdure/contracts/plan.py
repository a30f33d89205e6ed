"""Plans: tasks for agents, and which task waits for which. Both sides; also what users write."""

from typing import Annotated, Literal

from pydantic import Field, JsonValue

from perdure.contracts._base import Contract
from perdure.contracts.limits import Limits
from perdure.contracts.selection import SelectBy

MAX_TASKS = 1000
"""Tasks of one plan: each is a child run, and all of them share one Event History."""

AUTO = "auto"
"""In the place of an agent's name: one is chosen when the task starts."""

TaskState = Literal["waiting", "running", "done", "failed", "skipped", "cancelled"]
_Policy = Literal["fail", "skip_dependents", "continue"]


class RetryWith(Contract):
    """Policy of a task that another agent shall do when it fails."""

    retry_with: str
    """The agent that is given the task, once."""
    then: _Policy = "fail"
    """What holds when that agent fails too."""


OnTaskError = _Policy | RetryWith


class Task(Contract):
    """One piece of work of a plan, done by an agent in a run of its own."""

    id: str
    """A letter, then up to 63 letters, digits, `_` or `-`."""
    agent: str
    """An agent's name, or `auto`: then one is chosen when the task starts."""
    input: str = ""
    """What the agent is asked.

    `{{other}}` stands for the whole output of the task `other`, `{{other.field}}` for a field of its JSON (further
    names and positions in lists by more dots). A `{{` that is no reference is written `\\{{`.
    """
    needs: tuple[str, ...] = ()
    """Ids of the tasks that must be over before this one starts."""
    on_error: OnTaskError = "fail"
    """When the task fails: `fail` ends the plan, `skip_dependents` skips what needs the task, at any distance, and
    `continue` gives the failure to what refers to the task, as data."""
    kind: str = ""
    """What sort of work it is, for those who compare agents."""
    candidates: tuple[str, ...] = ()
    """The agents that `auto` chooses from, the preferred first; all of the app when empty."""
    select: SelectBy | None = None
    """How `auto` chooses; by rules when None."""
    limits: Limits | None = None
    """Over the agent's own."""
    context: dict[str, JsonValue] | None = None
    """Values for the agent's instructions and tools. They are readable in Event History: no secrets."""


class Plan(Contract):
    """Tasks, in any order. Each starts as soon as what it needs is over."""

    tasks: tuple[Task, ...]
    title: str = ""
    max_parallel: Annotated[int, Field(ge=1, le=200)] | None = None
    """Tasks at work at once; 50 when None."""


class PlanFault(Contract):
    """One reason why a plan can't be executed."""

    message: str
    path: tuple[str | int, ...] = ()
    """Where it is in the plan, such as `("tasks", 2, "needs", 0)`."""


class TaskFailure(Contract):
    """Why a task failed; also what a task that refers to it is given."""

    task: str
    agent: str
    type: str
    """Name of the error's class, such as `LimitExceeded`."""
    message: str


class TaskResult(Contract):
    """A task and what became of it."""

    id: str
    agent: str
    """Who did it last: not the plan's when it was retried with another, or chosen."""
    chosen_by: str = ""
    """The strategy that chose the agent, and why; empty where the plan names the agent."""
    state: TaskState = "waiting"
    attempts: int = 0
    workflow_id: str = ""
    """Of the last run that did it."""
    output: JsonValue = None
    is_output_apart: bool = False
    """The output is too large to be here: it is the result of the run `workflow_id`."""
    failure: TaskFailure | None = None
    waits_for: tuple[str, ...] = ()
    """The needs that are not over yet."""


class PlanResult(Contract):
    """What became of every task, in the plan's order."""

    tasks: tuple[TaskResult, ...] = ()

    def __getitem__(self, task: str) -> TaskResult:
        """Return the result of a task. Raises KeyError for one that isn't in the plan."""
        for each in self.tasks:
            if each.id == task:
                return each
        raise KeyError(task)

    @property
    def outputs(self) -> dict[str, JsonValue]:
        """Outputs of the tasks that are done, by id."""
        return {each.id: each.output for each in self.tasks if each.state == "done"}

    @property
    def failures(self) -> tuple[TaskFailure, ...]:
        """Why tasks failed, in the plan's order."""
        return tuple(each.failure for each in self.tasks if each.failure is not None)


class PlanStatus(Contract):
    """A plan at a glance; the answer to the query `perdure.plan`."""

    number: int
    """Which plan of the workflow it is, from 1."""
    title: str = ""
    tasks: tuple[TaskResult, ...] = ()
    """Without outputs."""


class CheckPlanRequest(Contract):
    """Find what keeps a plan from being executed."""

    plan: Plan


class CheckPlanResult(Contract):
    """Every fault of a plan."""

    faults: tuple[PlanFault, ...] = ()


class PlanRunInput(Contract):
    """Start `PlanWorkflow`."""

    plan: Plan
    max_parallel: int | None = None
    """Over the plan's own."""
