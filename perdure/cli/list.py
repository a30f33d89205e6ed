"""`perdure list`."""

from typing import Any

import click

from perdure.cli._command import cli_command, output_option

_STATUS = ("running", "completed", "failed", "canceled", "terminated", "continued_as_new", "timed_out")


@cli_command(name="list")
@click.option("--status", type=click.Choice(_STATUS), metavar="STATUS", help=f"One of {', '.join(_STATUS)}.")
@click.option("--state", metavar="STATE", help="Finer than the status: working, waiting_approval, waiting_limit …")
@click.option("--agent", metavar="NAME", help="Runs of this agent.")
@click.option("--model", metavar="NAME", help="Runs that were started with this model, such as openai:gpt-5-mini.")
@click.option("--tenant", metavar="NAME", help="Runs for this tenant.")
@click.option(
    "--min-cost",
    "min_cost_usd",
    type=click.FloatRange(min=0),
    metavar="USD",
    help="Runs that have cost so much, as of the last change of their state; without their child runs.",
)
@click.option("--query", metavar="QUERY", help="A visibility query of Temporal's; goes along with the others.")
@click.option("--limit", type=click.IntRange(min=1), default=50, help="At most so many.  [default: 50]")
@output_option
def command(output: str, **filters: Any) -> None:
    """List runs, the latest first; all filters together, and the server chooses."""
    from perdure.cli._context import with_client
    from perdure.cli._runs import print_runs
    from perdure.cli._stream import stream

    async def main(client: Any) -> list[Any]:
        return await stream(client.list(**filters), output)

    runs = with_client(main)
    if output == "text":
        print_runs(runs)
