"""`perdure chat`."""

from typing import Any

import click

from perdure.cli._command import app_option, cli_command, priority_option, queue_option, tenant_option


@cli_command(name="chat")
@click.argument("name", metavar="[AGENT]", required=False)
@click.option("--attach", metavar="ID", help="Come back to this session.")
@click.option("-i", "--input", "text", metavar="INPUT", help="The first message; else the first line of stdin.")
@click.option("--idle-timeout", metavar="TIME", help="The session ends without a message for so long, such as 2h.")
@click.option("--id", "workflow_id", metavar="ID", help="The workflow id.  [default: AGENT and a number]")
@click.option("--limit", "limits", multiple=True, metavar="KEY=N", help="A limit of the session; may be repeated.")
@click.option("--context", multiple=True, metavar="KEY=VALUE", help="A value for instructions and tools.")
@tenant_option
@priority_option
@app_option
@queue_option
@click.option(
    "-o", "--output", type=click.Choice(("text", "jsonl")), default="text", help="How to print.  [default: text]"
)
def command(app: str | None, task_queue: str | None, output: str, attach: str | None, **given: Any) -> None:
    """Talk with an agent, in a session that outlives the terminal.

    Each line is a message. On a terminal, one that is written while the agent works is read at its next turn, and
    one that begins with ! stops it at once. /quit, Ctrl-D and Ctrl-C leave the session open. Answers go to stdout,
    everything else to stderr.
    """
    from perdure.cli._chatting import chat
    from perdure.cli._context import load_project, run_async
    from perdure.cli._logging import configure_logging
    from perdure.cli._sessions import prepare_session

    project = load_project(app=app, task_queue=task_queue)
    session = prepare_session(project, attach=attach, **given)
    configure_logging(project.settings, level="WARNING")
    run_async(chat(project, session, output), is_worker=True)
