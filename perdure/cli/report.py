"""`perdure report`."""

from typing import Any

import click

from perdure.cli._command import cli_command, id_argument, output_option


@cli_command(name="report")
@id_argument
@click.option("--out", metavar="FILE", help="Where to write it; - for stdout.  [default: ID.html]")
@click.option(
    "--depth", type=click.IntRange(0, 20), default=2, metavar="N", help="Levels of child runs.  [default: 2]"
)
@click.option("--all", "is_all", is_flag=True, help="Every child run; else at most 200, those in trouble first.")
@output_option
def command(workflow_id: str, out: str | None, depth: int, is_all: bool, output: str) -> None:
    """Write a run as one HTML page: timeline, cost, plan and transcript.

    The page needs no network and no server. It has everything that was said: give it to whoever may read that.
    """
    from perdure.cli._context import with_client
    from perdure.cli._written import write_page

    async def main(client: Any) -> Any:
        return await client.report(workflow_id, depth=depth, is_all=is_all)

    write_page(with_client(main), out, workflow_id, output)
