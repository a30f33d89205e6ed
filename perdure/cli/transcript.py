"""`perdure transcript`."""

from typing import Any

from perdure.cli._command import cli_command, id_argument, output_option


@cli_command(name="transcript")
@id_argument
@output_option
def command(workflow_id: str, output: str) -> None:
    """Print the conversation of a run, in full; it needs no worker."""
    from perdure.cli._context import with_client
    from perdure.cli._messages import print_transcript
    from perdure.cli._render import print_items

    async def main(client: Any) -> Any:
        return await client.transcript(workflow_id)

    entries = with_client(main)
    if output == "text":
        print_transcript(entries)
    else:
        print_items(entries, output)
