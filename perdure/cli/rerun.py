"""`perdure rerun`."""

from typing import Any

import click

from perdure.cli._command import cli_command, id_argument, output_option


@cli_command(name="rerun")
@id_argument
@click.option(
    "--limit", "limits", multiple=True, metavar="KEY=N", help="Another limit for an agent's run; may be repeated."
)
@click.option(
    "--repeat-tools", is_flag=True, help="Let a workflow call tools again that aren't idempotent, where it has to."
)
@output_option
def command(workflow_id: str, limits: tuple[str, ...], repeat_tools: bool, output: str) -> None:
    """Start a failed run again from its last good turn or task; or a cancelled or terminated one.

    It keeps the workflow id, and what is done: no finished model or tool call, task or item is repeated.
    """
    from perdure.cli._context import with_client
    from perdure.cli._follow import warn_if_idle
    from perdure.cli._input import parse_limits
    from perdure.cli._rerun import print_rerun

    given = parse_limits(limits)

    async def main(client: Any) -> None:
        print_rerun(await client.rerun(workflow_id, limits=given, is_repeating=repeat_tools), output)
        await warn_if_idle(client, workflow_id)

    with_client(main)
