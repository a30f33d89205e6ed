"""`perdure cost`."""

from typing import Any

import click

from perdure.cli._command import cli_command, output_option

_BY = ("agent", "model", "tenant", "day", "run")


@cli_command(name="cost")
@click.option("--since", metavar="TIME", help="Runs that started within it: 30m, 24h, 7d, 4w.  [default: all]")
@click.option("--by", type=click.Choice(_BY), default="agent", help="What a line is for.  [default: agent]")
@output_option
def command(since: str | None, by: str, output: str) -> None:
    """Add up what agents have cost, by agent, model, tenant, day or run; no worker is needed.

    A run that asked several models, or had several agents, is in the line of each. Runs that are open, and what is
    of unknown cost, are counted but not added up.
    """
    from perdure.cli._context import with_client
    from perdure.cli._costs import print_costs
    from perdure.cli._input import parse_time

    time = parse_time(since)

    async def main(client: Any) -> Any:
        return await client.cost(since=time, by=by)

    print_costs(with_client(main), output)
