"""`perdure top`."""

from typing import Any

import click

from perdure.cli._command import FiniteRange, cli_command, output_option, queue_option


@cli_command(name="top")
@click.option("--once", is_flag=True, help="One look, then end; so it is when piped, and with -o json.")
@click.option(
    "--interval",
    type=FiniteRange(min=0.2),
    default=2.0,
    metavar="SECONDS",
    help="Between two looks.  [default: 2]",
)
@click.option("--limit", type=click.IntRange(1, 200), default=20, metavar="N", help="Runs to show.  [default: 20]")
@click.option("--agent", metavar="NAME", help="Runs of this agent.")
@click.option("--state", metavar="STATE", help="Runs in this state, such as waiting_approval.")
@queue_option
@output_option
def command(
    once: bool,
    interval: float,
    limit: int,
    agent: str | None,
    state: str | None,
    task_queue: str | None,
    output: str,
) -> None:
    """Show what goes on: open runs, rates, spend, Task Queues and workers. Ctrl-C ends it.

    As jsonl it prints a line for each look.
    """
    from perdure.cli._context import with_client
    from perdure.cli._top import show_top

    async def main(client: Any) -> None:
        await show_top(client, output, is_once=once, interval=interval, limit=limit, agent=agent, state=state)

    with_client(main, task_queue=task_queue)
