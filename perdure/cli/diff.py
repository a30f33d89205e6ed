"""`perdure diff`."""

from typing import Any

import click

from perdure.cli._command import cli_command, output_option


@cli_command(name="diff")
@click.argument("a", metavar="A")
@click.argument("b", metavar="B")
@output_option
def command(a: str, b: str, output: str) -> None:
    """Show where two runs of agents part, and the outcome, cost, tokens and time of each; it needs no worker.

    COST and TOKENS are what each run paid: a fork has not paid for the turns that it copied.
    """
    from perdure.cli._context import with_client
    from perdure.cli._diffs import print_diff
    from perdure.cli._render import print_json

    async def main(client: Any) -> Any:
        return await client.diff(a, b)

    found = with_client(main)
    if output == "text":
        print_diff(found)
    else:
        print_json(found, output)
