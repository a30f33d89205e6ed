"""`perdure transcript`."""

from typing import Any

import click

from perdure.cli._command import cli_command, id_argument, output_option


@cli_command(name="transcript")
@id_argument
@click.option("--full", is_flag=True, help="Also what was said before room was made, and in the runs before.")
@output_option
def command(workflow_id: str, full: bool, output: str) -> None:
    """Print the conversation of a run as the model sees it; it needs no worker."""
    from perdure.cli._context import with_client
    from perdure.cli._messages import print_transcript, tell_of_more
    from perdure.cli._render import print_items

    async def main(client: Any) -> Any:
        if full:
            return await client.full_transcript(workflow_id)
        return await client.transcript(workflow_id)

    found = with_client(main)
    entries = found.entries if full else found
    tell_of_more(found, workflow_id)
    if output == "text":
        print_transcript(entries)
    else:
        print_items(entries, output)
