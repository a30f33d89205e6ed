"""`perdure dev`."""

import click

from perdure.cli._command import app_option, cli_command, queue_option


@cli_command(name="dev")
@app_option
@queue_option
@click.option("--port", type=int, help="The server's port; 0 is any free one.  [default: 7233]")
@click.option("--ui-port", type=int, help="The port of its web UI.  [default: 8233]")
@click.option("--no-reload", is_flag=True, help="Don't restart the worker when a source file changes.")
def command(
    app: str | None, task_queue: str | None, port: int | None, ui_port: int | None, no_reload: bool
) -> None:
    """Run a Temporal server, its web UI and a worker; restart the worker on changes.

    The server keeps its database in .perdure. Ctrl-C stops the worker first, then the server.
    """
    from perdure.cli._context import resolve, run_async
    from perdure.cli._supervisor import develop

    resolved = resolve(app=app, task_queue=task_queue, dev_port=port, dev_ui_port=ui_port)
    run_async(develop(resolved, is_reloading=not no_reload))
