"""`perdure approve`."""

from typing import Any

import click

from perdure.cli._command import call_argument, cli_command, id_argument, output_option


@cli_command(name="approve")
@id_argument
@call_argument
@click.option("--args", "arguments", metavar="JSON", help="Run it with these arguments; @FILE and - work too.")
@click.option("--always", "is_always", is_flag=True, help="Approve the tool for the rest of the run.")
@output_option
def command(workflow_id: str, call: str | None, arguments: str | None, is_always: bool, output: str) -> None:
    """Approve a tool call that waits in the run ID, or in a run below it.

    CALL is its id, or the beginning of that; not needed where one waits. Other arguments are checked against the
    tool's schema, and the model is told.
    """
    from perdure.cli._context import with_client
    from perdure.cli._people import parse_object, print_decision

    given = parse_object(arguments, "--args")

    async def main(client: Any) -> Any:
        return await client.approve(workflow_id, call, arguments=given, is_always=is_always)

    print_decision(with_client(main), output)
