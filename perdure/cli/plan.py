"""`perdure plan`: plans that people write."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

from perdure.cli._command import (
    Command,
    app_option,
    id_argument,
    output_option,
    priority_option,
    queue_option,
    tenant_option,
)

_file_argument = click.argument("file", metavar="FILE")


@click.group(name="plan")
def command() -> None:
    """Check, run and change plans: tasks for agents, in YAML or JSON."""


@command.command(name="check", cls=Command)
@_file_argument
@app_option
@output_option
def check(file: str, app: str | None, output: str) -> None:
    """Check a plan, and print every fault with its line. FILE may be - for stdin.

    Exits with 2 when there is a fault. Without an app, the names of the agents aren't checked.
    """
    from perdure.cli._context import load_project
    from perdure.cli._plans import check_file, print_checked

    print_checked(check_file(file, load_project(app=app)), output)


_F = TypeVar("_F", bound=Callable[..., Any])


def _plan_options(function: _F) -> _F:
    """Add what `run` and `start` have in common."""
    options = [
        click.argument("file", metavar="[FILE]", required=False),
        click.option(
            "--planner", default="", metavar="AGENT", help="Who writes the plan, where there is no FILE."
        ),
        click.option("--synthesiser", default="", metavar="AGENT", help="Who answers from the results."),
        click.option("-i", "--input", "text", metavar="INPUT", help="What the plan is for; @FILE and - work too."),
        click.option(
            "--id", "workflow_id", metavar="ID", help="The workflow id.  [default: PlanWorkflow and a number]"
        ),
        click.option("--max-parallel", type=click.IntRange(1, 200), metavar="N", help="Tasks at work at once."),
        click.option(
            "--limit",
            "limits",
            multiple=True,
            metavar="KEY=N",
            help="What all tasks share: max_cost_usd=2, max_total_tokens=N.",
        ),
        tenant_option,
        priority_option,
        app_option,
        queue_option,
        output_option,
    ]
    for option in reversed(options):
        function = option(function)
    return function


@command.command(name="run", cls=Command)
@_plan_options
def run(app: str | None, task_queue: str | None, output: str, **given: Any) -> None:
    """Execute a plan, and follow it to its result: what each task gave. FILE may be - for stdin.

    Without FILE, --planner writes the plan for what is asked with -i. With --synthesiser, the result is that
    agent's answer. Where no Temporal answers and none is configured, the embedded server is run meanwhile, and
    where no worker polls, a worker. Ctrl-C leaves the run open.
    """
    from perdure.cli._context import load_project, run_async
    from perdure.cli._logging import configure_logging
    from perdure.cli._plans import PlanOptions, plan_start
    from perdure.cli._running import run_here

    project = load_project(app=app, task_queue=task_queue)
    start = plan_start(PlanOptions(**given), project)
    configure_logging(project.settings, level="WARNING")
    run_async(run_here(project, start, output), is_worker=True)


@command.command(name="start", cls=Command)
@_plan_options
def start(app: str | None, task_queue: str | None, output: str, **given: Any) -> None:
    """Start a plan as `plan run` does, and print the workflow id."""
    from perdure.cli._context import load_project, open_client, run_async, warn_without_workers
    from perdure.cli._plans import PlanOptions, plan_start
    from perdure.cli._starting import print_started

    project = load_project(app=app, task_queue=task_queue)
    plan = plan_start(PlanOptions(**given), project)

    async def main() -> None:
        client = await open_client(project)
        print_started(await plan.begin(client), output)
        await warn_without_workers(client)

    run_async(main())


@command.command(name="amend", cls=Command)
@id_argument
@_file_argument
@output_option
def amend(workflow_id: str, file: str, output: str) -> None:
    """Change a plan at work: tasks that are neither running nor done.

    FILE has `tasks:` to add or replace, and `drop:` with ids of tasks to take out; it may be - for stdin. It is
    checked as a whole, and applied as a whole or not at all: every fault is printed with its line.
    """
    from perdure.cli._context import with_client
    from perdure.cli._plans import Amending, print_status

    amending = Amending(file)

    async def main(client: Any) -> Any:
        return await amending.apply(client, workflow_id)

    print_status(with_client(main), output)


@command.command(name="schema", cls=Command)
def schema() -> None:
    """Print the JSON schema of a plan, for editors."""
    from perdure.cli._render import print_json
    from perdure.client.plan_files import plan_schema

    print_json(plan_schema(), "json")
