"""`perdure worker`."""

import click

from perdure.cli._command import app_option, cli_command, queue_option


@cli_command(name="worker")
@app_option
@queue_option
@click.option(
    "--with-parent", type=int, hidden=True, help="End when the process of this id is no longer the parent."
)
def command(app: str | None, task_queue: str | None, with_parent: int | None) -> None:
    """Run a worker until it is told to stop, by SIGTERM or Ctrl-C.

    It then finishes its calls within the grace period (PERDURE_GRACE_PERIOD_SECONDS). Logs go to stderr.
    """
    from perdure.cli._context import load_project, run_async
    from perdure.cli._logging import configure_logging
    from perdure.cli._serving import serve

    project = load_project(needs_app=True, app=app, task_queue=task_queue)
    configure_logging(project.settings)
    run_async(serve(project, parent=with_parent), is_worker=True)
