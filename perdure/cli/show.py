"""`perdure show`."""

from typing import Any

from perdure.cli._command import cli_command, id_argument, output_option, tree_options


@cli_command(name="show")
@id_argument
@tree_options
@output_option
def command(workflow_id: str, depth: int, is_all: bool, output: str) -> None:
    """Show a run: its state, what it has used, what it waits for, and the tree of runs and tasks below it."""
    from perdure.cli._context import with_client
    from perdure.cli._follow import warn_if_idle
    from perdure.cli._render import print_json
    from perdure.cli._runs import print_details

    async def main(client: Any) -> Any:
        await warn_if_idle(client, workflow_id)
        return await client.show(workflow_id, depth=depth, is_all=is_all)

    details = with_client(main)
    if output == "text":
        print_details(details)
    else:
        print_json(details, output)
