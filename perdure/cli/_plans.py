"""Plans from files: checked and started."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NoReturn

import click

from perdure.cli._context import Project, say
from perdure.cli._errors import USAGE
from perdure.cli._format import clean, plural
from perdure.cli._input import read_input
from perdure.cli._render import print_json
from perdure.cli._starting import WorkflowStart
from perdure.client.plan_files import FileFault, read_plan
from perdure.contracts.names import PLAN_WORKFLOW
from perdure.contracts.plan import Plan, PlanRunInput
from perdure.errors import PayloadTooLargeError

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
    plan, faults = read_plan(text, agents)
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


def plan_start(
    file: str,
    project: Project,
    *,
    workflow_id: str | None,
    max_parallel: int | None,
    tenant: str,
    priority: int | None,
) -> WorkflowStart:
    """Return the run that executes a plan; exit with 2 when it has faults.

    Raises:
        InvalidInputError: There is no such file, or it is neither YAML nor JSON. Not retryable.
        PayloadTooLargeError: The plan takes more than 1.5 MB. Not retryable.
    """
    checked = check_file(file, project)
    if checked.plan is None:
        for line in _fault_lines(checked):
            say(line)
        _refuse(checked)
    request = PlanRunInput(plan=checked.plan, max_parallel=max_parallel)
    if len(request.to_bytes()) > _MAX_PLAN_BYTES:
        raise PayloadTooLargeError(
            f"The plan takes more than {_MAX_PLAN_BYTES} bytes: put long inputs where a tool can read them."
        )
    return WorkflowStart(name=PLAN_WORKFLOW, args=[request], id=workflow_id, tenant=tenant, priority=priority)


def _fault_lines(checked: Checked) -> Iterator[str]:
    for fault in checked.faults:
        yield clean(f"{checked.name}:{fault.line}: {fault.message}")


def _refuse(checked: Checked) -> NoReturn:
    say(f"{checked.name}: {plural(len(checked.faults), 'fault')}.")
    raise click.exceptions.Exit(USAGE)
