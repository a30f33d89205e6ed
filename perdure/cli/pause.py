"""`perdure pause`."""

from typing import Any

from perdure.cli._command import cli_command, id_argument


@cli_command(name="pause")
@id_argument
def command(workflow_id: str) -> None:
    """Pause a run and all that is below it.

    What is in flight ends, and nothing new is started: no turn, no tool call, no child run.
    `perdure resume` lets it go on.
    """
    from perdure.cli._context import say, with_client
    from perdure.cli._follow import warn_if_idle

    async def main(client: Any) -> None:
        await client.pause(workflow_id)
        await warn_if_idle(client, workflow_id)

    with_client(main)
    say(f"Asked {workflow_id} to pause; `perdure resume {workflow_id}` lets it go on.")
