"""`perdure scoreboard`."""

from typing import Any

import click

from perdure.cli._command import cli_command, output_option, queue_option


@cli_command(name="scoreboard")
@click.option("--kind", metavar="KIND", help="Only work of this kind.")
@queue_option
@output_option
def command(kind: str | None, task_queue: str | None, output: str) -> None:
    """Show what became of work, by kind and agent; a worker must be up.

    RECENT is the share of successes, the latest counting most, by which the strategy `learned` goes; SCORE, COST
    and SECONDS are means.
    """
    from perdure.cli._context import warn_without_workers, with_client
    from perdure.cli._render import print_items
    from perdure.cli._scores import print_table_of

    async def main(client: Any) -> Any:
        await warn_without_workers(client)
        return await client.scoreboard(kind=kind)

    table = with_client(main, task_queue=task_queue)
    if output == "text":
        print_table_of(table)
    else:
        print_items(table.rows, output)
