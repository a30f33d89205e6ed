"""`perdure approvals`."""

from typing import Any

import click

from perdure.cli._command import cli_command, output_option


@cli_command(name="approvals")
@click.argument("workflow_id", metavar="[ID]", required=False)
@click.option("--decided", is_flag=True, help="What people decided in the run ID, and who.")
@click.option(
    "--limit", type=click.IntRange(1, 10_000), default=200, metavar="N", help="Runs, without ID.  [default: 200]"
)
@output_option
def command(workflow_id: str | None, decided: bool, limit: int, output: str) -> None:
    """Show what the run ID, and the runs below it, wait for people for, with all that there is to know.

    Without ID, list the tool calls that wait for approval in all runs.
    """
    from perdure.cli._context import with_client
    from perdure.cli._people import print_decisions, print_inbox, print_waits

    if decided and workflow_id is None:
        raise click.UsageError("--decided needs the ID of a run.")

    async def main(client: Any) -> Any:
        if workflow_id is None:
            return await client.inbox(kind="approval", limit=limit)
        return await (client.decisions(workflow_id) if decided else client.waits(workflow_id))

    found = with_client(main)
    if workflow_id is None:
        print_inbox(found, output)
    elif decided:
        print_decisions(found, output)
    else:
        print_waits(found, output)
