"""`perdure score`."""

from typing import Any

import click

from perdure.cli._command import cli_command, id_argument, output_option, queue_option


def _check_score(_: click.Context, __: click.Parameter, value: float) -> float:
    if not 0 <= value <= 1:  # nor is NaN
        raise click.BadParameter(f"{value:g} should be between 0 (bad) and 1 (good).")
    return value


@cli_command(name="score", context_settings={"ignore_unknown_options": True})  # so that -1 is a bad score
@id_argument
@click.argument("score", metavar="SCORE", type=float, callback=_check_score)
@click.option("--note", default="", metavar="TEXT", help="What there is to say about it.")
@queue_option
@output_option
def command(workflow_id: str, score: float, note: str, task_queue: str | None, output: str) -> None:
    """Say how good a run was, from 0 to 1: it counts when agents are compared.

    SCORE is a number from 0 (bad) to 1 (good). The run must be an agent's; those of a plan's tasks are listed by
    `perdure show`.
    """
    from perdure.cli._context import warn_without_workers, with_client
    from perdure.cli._scores import print_judgement

    async def main(client: Any) -> Any:
        outcome = await client.score(workflow_id, score, note=note)
        await warn_without_workers(client)
        return outcome

    print_judgement(with_client(main, task_queue=task_queue), output)
