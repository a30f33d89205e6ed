"""`perdure plan`: plans that people write."""

from typing import Any

import click

from perdure.cli._command import (
    Command,
    app_option,
    output_option,
    priority_option,
    queue_option,
    tenant_option,
)

_file_argument = click.argument("file", metavar="FILE")


@click.group(name="plan")
def command() -> None:
    """Check and run plans: tasks for agents, in YAML or JSON."""


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


@command.command(name="run", cls=Command)
@_file_argument
@click.option("--id", "workflow_id", metavar="ID", help="The workflow id.  [default: PlanWorkflow and a number]")
@click.option("--max-parallel", type=click.IntRange(1, 200), metavar="N", help="Tasks at work at once.")
@tenant_option
@priority_option
@app_option
@queue_option
@output_option
def run(file: str, app: str | None, task_queue: str | None, output: str, **given: Any) -> None:
    """Execute a plan, and follow it to its result: what each task gave. FILE may be - for stdin.

    Where no Temporal answers and none is configured, the embedded server is run meanwhile, and where no worker
    polls, a worker. Ctrl-C leaves the run open.
    """
    from perdure.cli._context import load_project, run_async
    from perdure.cli._logging import configure_logging
    from perdure.cli._plans import plan_start
    from perdure.cli._running import run_here

    project = load_project(app=app, task_queue=task_queue)
    start = plan_start(file, project, **given)
    configure_logging(project.settings, level="WARNING")
    run_async(run_here(project, start, output), is_worker=True)


@command.command(name="schema", cls=Command)
def schema() -> None:
    """Print the JSON schema of a plan, for editors."""
    from perdure.cli._render import print_json
    from perdure.client.plan_files import plan_schema

    print_json(plan_schema(), "json")
