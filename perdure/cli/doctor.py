"""`perdure doctor`."""

import click

from perdure.cli._command import app_option, cli_command, output_option, queue_option


@cli_command(name="doctor")
@click.option("--fix", is_flag=True, help="Register the search attributes that the server lacks.")
@app_option
@queue_option
@output_option
def command(fix: bool, app: str | None, task_queue: str | None, output: str) -> None:
    """Check settings, app, workflows and server.

    Exits with 0 if all is well, else with the code of the worst problem. Shows no key, only whether it is set.
    """
    from perdure.cli._checks import Doctor
    from perdure.cli._context import run_async
    from perdure.cli._render import print_items
    from perdure.cli._report import print_report

    doctor = Doctor(is_fixing=fix, app=app, task_queue=task_queue)
    run_async(doctor.examine())
    if output == "text":
        print_report(doctor.findings)
    else:
        print_items(doctor.findings, output)
    raise click.exceptions.Exit(doctor.exit_code)
