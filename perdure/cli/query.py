"""`perdure query`."""

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
    from perdure.cli._asking import ask

    ask(lambda client: client.query, workflow_id, name, args, output)
