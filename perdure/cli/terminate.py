"""`perdure terminate`."""

from typing import Any

import click

from perdure.cli._command import cli_command, id_argument


@cli_command(name="terminate")
@id_argument
@click.option("--reason", default="by `perdure terminate`", metavar="TEXT", help="Recorded with the run.")
def command(workflow_id: str, reason: str) -> None:
    """End a run at once; nothing of it is asked, and nothing is cleaned up."""
    from perdure.cli._context import say, with_client

    async def main(client: Any) -> None:
        await client.terminate(workflow_id, reason=reason)

    with_client(main)
    say(f"Terminated {workflow_id}.")
