"""`perdure start`."""

from typing import Any

from perdure.cli._command import cli_command, output_option, start_options


@cli_command(name="start")
@start_options
@output_option
def command(app: str | None, task_queue: str | None, output: str, **given: Any) -> None:
    """Start an agent or a workflow, and print the workflow id."""
    from perdure.cli._context import load_project, open_client, run_async, warn_without_workers
    from perdure.cli._starting import prepare, print_started

    project = load_project(app=app, task_queue=task_queue)
    start = prepare(project, **given)

    async def main() -> None:
        client = await open_client(project)
        print_started(await start.begin(client), output)
        await warn_without_workers(client)

    run_async(main())
