"""Plans from files: checked and started."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NoReturn

import click

from perdure.cli._context import Project, say
from perdure.cli._errors import USAGE
from perdure.cli._format import clean, plural
from perdure.cli._input import parse_shared_limits, read_input
from perdure.cli._render import print_json
from perdure.cli._starting import WorkflowStart
from perdure.client import PerdureClient
from perdure.client.plan_files import AmendmentFile, FileFault, read_plan
from perdure.contracts.names import PLAN_WORKFLOW
from perdure.contracts.plan import Plan, PlanFault, PlanRunInput, PlanStatus
from perdure.errors import InvalidPlanError, PayloadTooLargeError

_MAX_PLAN_BYTES = 1_500_000


@dataclass(frozen=True)
class Checked:
    """A plan's file that was read."""

    name: str
    plan: Plan | None
    faults: list[FileFault]


def check_file(file: str, project: Project) -> Checked:
    """Read a plan; `-` is stdin.

    Raises:
        InvalidInputError: There is no such file, or it is neither YAML nor JSON. Not retryable.
    """
    text = read_input("-" if file == "-" else f"@{file}")
    agents = None if project.app is None else project.app.agents
    verifiers = None if project.app is None else project.app.registry.verifiers
    plan, faults = read_plan(text, agents, verifiers)
    return Checked("stdin" if file == "-" else file, plan, faults)


def print_checked(checked: Checked, output: str) -> None:
    """Print every fault with its line; exit with 2 when there is one."""
    if output != "text":
        print_json({"faults": checked.faults}, output)
    else:
        for line in _fault_lines(checked):
            click.echo(line)
    if checked.plan is None:
        _refuse(checked)
    say(f"{checked.name}: {plural(len(checked.plan.tasks), 'task')}, no faults.")


@dataclass(frozen=True, kw_only=True)
class PlanOptions:
    """What `plan run` and `plan start` were given."""

    file: str | None
    text: str | None
    planner: str
    synthesiser: str
    workflow_id: str | None
    max_parallel: int | None
    limits: Sequence[str]
    tenant: str
    priority: int | None


def plan_start(given: PlanOptions, project: Project) -> WorkflowStart:
    """Return the run that executes a plan, or has one written; exit with 2 when the plan has faults.

    Raises:
        click.UsageError: There is neither a plan nor somebody who writes one.
        UnknownAgentError: Of planner or synthesiser. Not retryable.
        InvalidInputError: There is no such file, or it is neither YAML nor JSON. Not retryable.
        PayloadTooLargeError: The plan takes more than 1.5 MB. Not retryable.
    """
    if given.file is None and not (given.planner and given.text):
        raise click.UsageError("Give the FILE of a plan, or --planner AGENT and -i INPUT to have one written.")
    for name in (given.planner, given.synthesiser):
        if name and project.app is not None:
            project.app.registry.agent(name)
    request = PlanRunInput(
        plan=None if given.file is None else _checked_plan(given.file, project),
        max_parallel=given.max_parallel,
        goal="" if given.text is None else read_input(given.text),
        planner=given.planner,
        synthesiser=given.synthesiser,
    )
    if len(request.to_bytes()) > _MAX_PLAN_BYTES:
        raise PayloadTooLargeError(
            f"The plan takes more than {_MAX_PLAN_BYTES} bytes: put long inputs where a tool can read them."
        )
    return WorkflowStart(
        name=PLAN_WORKFLOW,
        args=[request],
        id=given.workflow_id,
        limits=parse_shared_limits(given.limits),
        tenant=given.tenant,
        priority=given.priority,
    )


def _checked_plan(file: str, project: Project) -> Plan:
    checked = check_file(file, project)
    if checked.plan is None:
        for line in _fault_lines(checked):
            say(line)
        _refuse(checked)
    return checked.plan


class Amending:
    """A file of changes to a plan at work, which have no faults by themselves; exits with 2 when they have.

    Raises:
        InvalidInputError: There is no such file, or it is neither YAML nor JSON. Not retryable.
    """

    def __init__(self, file: str) -> None:
        """Read it; `-` is stdin."""
        self._name = "stdin" if file == "-" else file
        self._file = AmendmentFile(read_input("-" if file == "-" else f"@{file}"))
        self._amendment = self._file.amendment or self._refuse(self._file.faults)

    async def apply(self, client: PerdureClient, workflow_id: str) -> PlanStatus:
        """Apply them; exit with 2 when they have faults as changes to that plan."""
        try:
            return await client.amend_plan(workflow_id, self._amendment)
        except InvalidPlanError as error:
            self._refuse(self._file.locate(map(PlanFault.model_validate, error.attributes["faults"])))

    def _refuse(self, faults: list[FileFault]) -> NoReturn:
        checked = Checked(self._name, None, faults)
        for line in _fault_lines(checked):
            say(line)
        _refuse(checked)


def print_status(status: PlanStatus, output: str) -> None:
    """Print how a plan stands."""
    if output != "text":
        print_json(status, output)
        return
    for task in status.tasks:
        waits = f" (waits for {', '.join(task.waits_for)})" if task.waits_for else ""
        click.echo(clean(f"{task.id}: {task.state}{waits}"))


def _fault_lines(checked: Checked) -> Iterator[str]:
    for fault in checked.faults:
        yield clean(f"{checked.name}:{fault.line}: {fault.message}")


def _refuse(checked: Checked) -> NoReturn:
    say(f"{checked.name}: {plural(len(checked.faults), 'fault')}.")
    raise click.exceptions.Exit(USAGE)
