"""`perdure inbox`."""

from typing import Any

import click

from perdure.cli._command import cli_command, output_option


@cli_command(name="inbox")
@click.option("--group", metavar="NAME", help="Only what waits for this group.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=200, metavar="N", help="Runs.  [default: 200]")
@output_option
def command(group: str | None, limit: int, output: str) -> None:
    """List all that runs wait for people for: approvals and questions, in all runs.

    A run is found a second or so after it begins to wait. Of more than N runs, those that started last are left
    out, and it is said how many.
    """
    from perdure.cli._context import with_client
    from perdure.cli._people import print_inbox

    async def main(client: Any) -> Any:
        return await client.inbox(group=group, limit=limit)

    print_inbox(with_client(main), output)
