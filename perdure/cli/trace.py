"""`perdure trace`."""

from typing import Any

import click

from perdure.cli._command import cli_command, id_argument, output_option


@cli_command(name="trace")
@id_argument
@click.option(
    "--depth", type=click.IntRange(0, 20), default=1, metavar="N", help="Levels of child runs.  [default: 1]"
)
@click.option("--all", "is_all", is_flag=True, help="Every child run; else those in trouble or at work first.")
@output_option
def command(workflow_id: str, depth: int, is_all: bool, output: str) -> None:
    """Show what a run did and when: turns, model calls, tools, child runs, waits and retries.

    With durations, tokens and dollars, over its whole chain of runs; from Event History, so no worker is needed.
    """
    from perdure.cli._context import with_client
    from perdure.cli._trace import print_trace

    async def main(client: Any) -> Any:
        return await client.trace(workflow_id, depth=depth, is_all=is_all)

    print_trace(with_client(main), output, is_all=is_all)
