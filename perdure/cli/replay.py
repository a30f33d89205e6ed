"""`perdure replay`: recorded runs against the code at hand."""

import click

from perdure.cli._command import Command, app_option, id_argument, output_option, queue_option


@click.group(name="replay")
def command() -> None:
    """Check that recorded runs replay with today's code, and record runs for tests."""


@command.command(name="check", cls=Command)
@click.argument("folder", metavar="[DIR]", required=False)
@click.option("--open", "is_open", is_flag=True, help="Open runs of the Task Queue; the default without DIR.")
@click.option("--since", metavar="TIME", help="Runs that started within it, open and closed: 30m, 24h, 7d, 4w.")
@click.option("--limit", type=click.IntRange(1), default=1000, show_default=True, help="At most so many runs.")
@app_option
@queue_option
@output_option
def check(
    folder: str | None,
    is_open: bool,
    since: str | None,
    limit: int,
    app: str | None,
    task_queue: str | None,
    output: str,
) -> None:
    """Replay runs with the code at hand: a gate for CI, before a deploy.

    Takes open runs, those of a time, or stored histories: a file, or all *.json of a folder. Exits with 1 if a
    run could not go on, and says at which event, and why. No model is asked, and no tool runs.
    """
    from perdure.cli._replaying import Chosen, check_runs, print_report

    chosen = Chosen(folder=folder, is_open=is_open, since=since, limit=limit)
    report = check_runs(chosen, app=app, task_queue=task_queue)
    print_report(report, output)
    raise click.exceptions.Exit(1 if report.faults else 0)


@command.command(name="export", cls=Command)
@id_argument
@click.option("-f", "--file", metavar="FILE", help="Where to; stdout when not given.")
def export(workflow_id: str, file: str | None) -> None:
    """Write a run as a cassette: its history, and what models and tools said.

    The run, what it continues, and the runs below it. `perdure replay check` takes it, and tests replay the agent
    against it: see `perdure.testing.replay_cassette`. It holds what the run's history holds.
    """
    from perdure.cli._replaying import export_run

    export_run(workflow_id, file)
