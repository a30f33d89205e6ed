"""`perdure run`."""

from typing import Any

from perdure.cli._command import cli_command, output_option, start_options


@cli_command(name="run")
@start_options
@output_option
def command(app: str | None, task_queue: str | None, output: str, **given: Any) -> None:
    """Start an agent or a workflow, and follow it to its result.

    Where no Temporal answers and none is configured, the embedded server is run meanwhile, and where no worker
    polls, a worker. Progress goes to stderr, the result to stdout. Ctrl-C leaves the run open.
    """
    from perdure.cli._context import load_project, run_async
    from perdure.cli._logging import configure_logging
    from perdure.cli._running import run_here
    from perdure.cli._starting import prepare

    project = load_project(app=app, task_queue=task_queue)
    start = prepare(project, **given)
    configure_logging(project.settings, level="WARNING")
    run_async(run_here(project, start, output), is_worker=True)
