"""`perdure worker`."""

import click

from perdure.cli._command import app_option, cli_command, queue_option


@cli_command(name="worker")
@app_option
@queue_option
@click.option(
    "--serve",
    metavar="WORK",
    help="Any of workflows,models,tools; those that have a Task Queue of their own can be served apart.  "
    "[env: PERDURE_SERVE] [default: all]",
)
@click.option("--deployment-name", metavar="NAME", help="The Worker Deployment.  [env: PERDURE_DEPLOYMENT_NAME]")
@click.option(
    "--build-id", metavar="ID", help="The version of the code, in its deployment.  [env: PERDURE_BUILD_ID]"
)
@click.option(
    "--versioning",
    type=click.Choice(["auto_upgrade", "pinned"]),
    help="What a new version means for open runs.  [env: PERDURE_VERSIONING] [default: auto_upgrade]",
)
@click.option(
    "--health-address",
    metavar="[HOST:]PORT",
    help="Answer /live and /ready there.  [env: PERDURE_HEALTH_ADDRESS]",
)
@click.option(
    "--metrics-address",
    metavar="[HOST:]PORT",
    help="Offer metrics to Prometheus there.  [env: PERDURE_METRICS_ADDRESS]",
)
@click.option(
    "--log-format", type=click.Choice(["text", "json"]), help="[env: PERDURE_JSON_LOGS=true] [default: text]"
)
@click.option(
    "--with-parent", type=int, hidden=True, help="End when the process of this id is no longer the parent."
)
def command(log_format: str | None, with_parent: int | None, **flags: str | None) -> None:
    """Run a worker until it is told to stop, by SIGTERM or Ctrl-C.

    It then finishes its calls within the grace period (PERDURE_GRACE_PERIOD_SECONDS). Logs go to stderr.
    """
    from perdure.cli._context import load_project, run_async
    from perdure.cli._logging import configure_logging
    from perdure.cli._serving import serve

    json_logs = None if log_format is None else log_format == "json"
    project = load_project(needs_app=True, json_logs=json_logs, **flags)
    configure_logging(project.settings)
    run_async(serve(project, parent=with_parent), is_worker=True)
