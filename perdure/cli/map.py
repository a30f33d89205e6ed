"""`perdure map`."""

from typing import Any

import click

from perdure.cli._command import (
    app_option,
    cli_command,
    output_option,
    priority_option,
    queue_option,
    tenant_option,
)


@cli_command(name="map")
@click.argument("agent", metavar="AGENT")
@click.option(
    "--items",
    "source",
    required=True,
    metavar="@FILE",
    help="The items: lines of text, or a JSON array; @FILE, or - for stdin.",
)
@click.option(
    "--max-parallel", type=click.IntRange(1, 10_000), default=50, help="Runs at once.  [default: 50]", metavar="N"
)
@click.option(
    "--on-error",
    type=click.Choice(["fail", "collect"]),
    default="fail",
    help="End at the first failure, or go on and keep failures.  [default: fail]",
)
@click.option("--id", "workflow_id", metavar="ID", help="The workflow id.  [default: AGENT and a number]")
@click.option(
    "--limit",
    "limits",
    multiple=True,
    metavar="KEY=N",
    help="A limit: max_cost_usd of all runs, max_turns=5 of each.",
)
@click.option("--context", multiple=True, metavar="KEY=VALUE", help="A value for instructions and tools.")
@tenant_option
@priority_option
@app_option
@queue_option
@output_option
def command(app: str | None, task_queue: str | None, output: str, **given: Any) -> None:
    """Run an agent on each line of a file, or each element of a JSON array.

    Progress goes to stderr, the outputs in the items' order to stdout. Ctrl-C leaves the map running.
    """
    from perdure.cli._context import load_project, open_client, run_async
    from perdure.cli._mapping import prepare, run_map

    project = load_project(app=app, task_queue=task_queue)
    start = prepare(**given)

    async def main() -> None:
        await run_map(await open_client(project), start, output)

    run_async(main())
