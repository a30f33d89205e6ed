"""`perdure query`."""

from typing import Any

import click

from perdure.cli._command import cli_command, id_argument, output_option


@cli_command(name="query")
@id_argument
@click.argument("name")
@click.argument("args", nargs=-1)
@output_option
def command(workflow_id: str, name: str, args: tuple[str, ...], output: str) -> None:
    """Ask a run something, such as perdure.status; a worker must be up.

    Each of ARGS is JSON where it parses, else text; @FILE and - work too.
    """
    from perdure.cli._context import with_client
    from perdure.cli._follow import warn_if_idle
    from perdure.cli._input import parse_args
    from perdure.cli._outcome import print_result

    values = parse_args(args)

    async def main(client: Any) -> Any:
        await warn_if_idle(client, workflow_id)
        return await client.query(workflow_id, name, *values)

    print_result(with_client(main), output)
