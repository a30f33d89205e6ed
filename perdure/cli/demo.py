"""`perdure demo`: an agent at work, its worker killed, the work going on."""

import click

from perdure.cli._command import cli_command as make_command


@make_command(name="demo")
@click.option("--question", default=None, metavar="TEXT", help="Ask something else about perdure's documentation.")
@click.option("--keep", is_flag=True, help="Leave the server and its web UI up until Ctrl-C.")
def command(question: str | None, keep: bool) -> None:
    """Kill a worker in mid-run and watch the run go on.

    Needs no key and no network: an embedded Temporal server, and a model that works by rules. The files that
    the agent reads are perdure's own README and documentation.
    """
    import asyncio

    from perdure.cli._demo import QUESTION, play

    asyncio.run(play(question or QUESTION, is_kept=keep))
