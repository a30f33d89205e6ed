"""`perdure resume`."""

from typing import Any

from perdure.cli._command import cli_command, id_argument


@cli_command(name="resume")
@id_argument
def command(workflow_id: str) -> None:
    """Let a paused run go on, and all that is below it."""
    from perdure.cli._context import say, with_client
    from perdure.cli._follow import warn_if_idle

    async def main(client: Any) -> None:
        await client.resume(workflow_id)
        await warn_if_idle(client, workflow_id)

    with_client(main)
    say(f"Asked {workflow_id} to go on.")
