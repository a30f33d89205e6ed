"""`perdure fork`."""

from typing import Any

import click

from perdure.cli._command import cli_command, id_argument, output_option


@cli_command(name="fork")
@id_argument
@click.option(
    "--turn",
    type=click.IntRange(min=0),
    metavar="N",
    help="The last turn to keep; 0 for none.  [default: the last after which there is something to do]",
)
@click.option(
    "--message", metavar="TEXT", help="What the user says next, in place of what was said there; text, @FILE or -."
)
@click.option("--model", "models", multiple=True, metavar="MODEL", help="Another model; again for its fallbacks.")
@click.option("--instructions", metavar="TEXT", help="Other instructions: text, @FILE or -.")
@click.option(
    "--tool-result",
    "results",
    multiple=True,
    metavar="CALL=TEXT",
    help="Another result of a tool call of turn N, by its id or its tool's name: text, @FILE or -.",
)
@click.option(
    "--limit",
    "limits",
    multiple=True,
    metavar="KEY=N",
    help="Another limit, such as max_turns=5; may be repeated.",
)
@click.option(
    "--id", "new_id", metavar="ID", help="The workflow id of the fork.  [default: ID-fork- and a number]"
)
@output_option
def command(workflow_id: str, output: str, **given: Any) -> None:
    """Start a new run whose conversation is the first N turns of another, open or closed; print its workflow id.

    Nothing of these turns is asked, paid or done again. The fork keeps to the agent as the other run was pinned to
    it, but for what is given here, and its limits count what it does itself. The other run is left as it is.
    """
    from perdure.cli._context import with_client
    from perdure.cli._follow import warn_if_idle
    from perdure.cli._forks import print_fork, read_fork

    options = read_fork(**given)

    async def main(client: Any) -> None:
        started = await client.fork(workflow_id, **options)
        print_fork(started, output)
        await warn_if_idle(client, started.workflow_id)

    with_client(main)
