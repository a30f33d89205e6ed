"""`perdure watch`."""

from typing import Any

from perdure.cli._command import cli_command, id_argument, output_option


@cli_command(name="watch")
@id_argument
@output_option
def command(workflow_id: str, output: str) -> None:
    """Follow a run live: turns, tool calls, text as it comes, retries. Exits with 1 if it failed.

    Ctrl-C stops watching; the run goes on.
    """
    from perdure.cli._context import with_client
    from perdure.cli._follow import warn_if_idle, watch

    async def main(client: Any) -> None:
        await warn_if_idle(client, workflow_id)
        await watch(client, workflow_id, output)

    with_client(main)
