"""`perdure signal`."""

from typing import Any

import click

from perdure.cli._command import cli_command, id_argument


@cli_command(name="signal")
@id_argument
@click.argument("name")
@click.argument("args", nargs=-1)
def command(workflow_id: str, name: str, args: tuple[str, ...]) -> None:
    """Send a signal to a run.

    Each of ARGS is JSON where it parses, else text; @FILE and - work too.
    """
    from perdure.cli._context import say, with_client
    from perdure.cli._input import parse_args

    values = parse_args(args)

    async def main(client: Any) -> None:
        await client.signal(workflow_id, name, *values)

    with_client(main)
    say(f"Sent {name} to {workflow_id}.")
