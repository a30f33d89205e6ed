"""`perdure task`: tasks of a plan at work."""

from typing import Any

import click

from perdure.cli._command import Command, id_argument, output_option


@click.group(name="task")
def command() -> None:
    """Steer the tasks of a plan at work."""


@command.command(name="retry", cls=Command)
@id_argument
@click.argument("task")
@output_option
def retry(workflow_id: str, task: str, output: str) -> None:
    """Run a failed or skipped task of a plan at work again; what was skipped for it waits again."""
    from perdure.cli._context import with_client
    from perdure.cli._plans import print_status

    async def main(client: Any) -> Any:
        return await client.retry_task(workflow_id, task)

    print_status(with_client(main), output)
