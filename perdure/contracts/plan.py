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
_Policy = Literal["fail", "skip_dependents", "continue", "replan"]


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
    names and positions in lists by more dots), `{{artifacts.name}}` for an artifact, which is not copied. A `{{`
    that is no reference is written `\\{{`.
    """
    needs: tuple[str, ...] = ()
    """Ids of the tasks that must be over before this one starts."""
    on_error: OnTaskError = "fail"
    """When the task fails: `fail` ends the plan, `skip_dependents` skips what needs the task, at any distance,
    `continue` gives the failure to what refers to the task, as data, and `replan` has the plan's planner replace
    the task, and others that have not started."""
    verify: str = ""
    """Who judges the result, in place of the agent's own verifier: the name of a function or of an agent."""
    produces: tuple[str, ...] = ()
    """Names of artifacts, unique in the plan: `{{artifacts.name}}` in the input of another task refers to one.

    Of a task with one artifact it is the whole output; of a task with several, the field of that name.
    """
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
    planner: str = ""
    """The agent that is asked when a task with `on_error: replan` fails."""
    max_replans: Annotated[int, Field(ge=0, le=20)] = 3
    """How often the planner is asked; the next failure ends the plan."""


class PlanAmendment(Contract):
    """Changes to a plan at work. Tasks that are running or done stay as they are."""

    tasks: tuple[Task, ...] = ()
    """To add, or, where there is one of that id, in its place."""
    drop: tuple[str, ...] = ()
    """Ids of tasks to take out."""


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

    answer: JsonValue = None
    """The synthesiser's, where there is one."""
    answered_by: str = ""
    """The workflow id of the synthesiser's run; an answer of more than 250,000 characters is only there."""

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
    replans: int = 0
    """How often the planner was asked to change it."""


class CheckPlanRequest(Contract):
    """Find what keeps a plan from being executed."""

    plan: Plan
    amendment: PlanAmendment | None = None
    """Then: what keeps this from being applied to it."""
    tasks: tuple[TaskResult, ...] = ()
    """How the plan's tasks stand, without outputs, for an amendment."""


class CheckPlanResult(Contract):
    """Every fault of a plan."""

    faults: tuple[PlanFault, ...] = ()
    agents: tuple[str, ...] = ()
    """The agents that there were, for amendments to come."""
    verifiers: tuple[str, ...] = ()


class PlanRunInput(Contract):
    """Start `PlanWorkflow`, with a plan or with a planner that writes it."""

    plan: Plan | None = None
    max_parallel: int | None = None
    """Over the plan's own."""
    goal: str = ""
    """What the planner and the synthesiser are asked."""
    planner: str = ""
    """The agent that writes the plan; also the one that replans, where the plan names none."""
    synthesiser: str = ""
    """The agent that answers from the results; none when empty."""


class AmendPlanRequest(Contract):
    """Change a plan at work; the argument of the update `perdure.amend_plan`."""

    amendment: PlanAmendment
    number: int = 0
    """Which plan of the workflow, from 1; the latest when 0."""


class RetryTaskRequest(Contract):
    """Do a failed or skipped task again; the argument of the update `perdure.retry_task`."""

    task: str
    number: int = 0
    """Which plan of the workflow, from 1; the latest when 0."""


class ArtifactQuery(Contract):
    """Ask a plan's workflow for an artifact; the argument of the query `perdure.artifact`."""

    plan: int
    name: str


class ArtifactValue(Contract):
    """An artifact, or where it is."""

    value: JsonValue = None
    workflow_id: str = ""
    """Set where the output is too large to be in the plan's workflow: the run that has it."""
    field: str = ""
    """With `workflow_id`: the field of the output that is the artifact; the whole when empty."""


class AgentCard(Contract):
    """What a planner is told of an agent."""

    name: str
    description: str = ""


class DescribeAgentsResult(Contract):
    """Who can be given tasks, and who can judge results."""

    agents: tuple[AgentCard, ...] = ()
    verifiers: tuple[str, ...] = ()
