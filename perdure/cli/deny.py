"""`perdure deny`."""

from typing import Any

import click

from perdure.cli._command import call_argument, cli_command, id_argument, output_option


@cli_command(name="deny")
@id_argument
@call_argument
@click.option("--reason", default="", metavar="TEXT", help="What the model is told.")
@output_option
def command(workflow_id: str, call: str | None, reason: str, output: str) -> None:
    """Deny a tool call that waits in the run ID, or in a run below it. The run goes on without it."""
    from perdure.cli._context import with_client
    from perdure.cli._people import print_decision

    async def main(client: Any) -> Any:
        return await client.deny(workflow_id, call, reason=reason)

    print_decision(with_client(main), output)
