"""`perdure limit`."""

from typing import Any

import click

from perdure.cli._command import cli_command, id_argument, output_option


@cli_command(name="limit")
@id_argument
@click.argument("given", metavar="NAME=VALUE...", nargs=-1, required=True)
@output_option
def command(workflow_id: str, given: tuple[str, ...], output: str) -> None:
    """Set limits of an open run of an agent, such as max_cost_usd=5.

    A run that waits at a limit (on_limit="ask") goes on. No limit can be set below what is spent.
    """
    from perdure.cli._context import with_client
    from perdure.cli._follow import warn_if_idle
    from perdure.cli._input import parse_limits
    from perdure.cli._limits import print_limits

    limits = parse_limits(given, "limit")

    async def main(client: Any) -> Any:
        await warn_if_idle(client, workflow_id)
        return await client.set_limits(workflow_id, limits)

    print_limits(with_client(main), output)
