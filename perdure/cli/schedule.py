"""`perdure schedule`: runs that start by the clock."""

from typing import Any

import click

from perdure.cli._command import (
    Command,
    app_option,
    output_option,
    priority_option,
    queue_option,
    tenant_option,
)

_OVERLAPS = ("skip", "buffer_one", "buffer_all", "cancel_other", "terminate_other", "allow_all")

name_argument = click.argument("name", metavar="NAME")
note_option = click.option("--note", default="", metavar="TEXT", help="What there is to say about it.")


@click.group(name="schedule")
def command() -> None:
    """Start agents and workflows by the clock, on Temporal Schedules."""


@command.command(name="create", cls=Command)
@name_argument
@click.option("--agent", default="", metavar="NAME", help="The agent to start; it is looked up at each start.")
@click.option("--workflow", default="", metavar="NAME", help="A workflow of your own, in place of an agent.")
@click.option(
    "-i", "--input", "text", metavar="INPUT", help="Text, @FILE, - for stdin, or JSON; @@ for a plain @."
)
@click.option(
    "--cron", multiple=True, metavar="EXPR", help="When, such as '0 9 * * 1-5' or @daily; may be repeated."
)
@click.option("--every", metavar="TIME", help="A period, such as 30m, 6h or 1d.")
@click.option("--time-zone", default="", metavar="ZONE", help="Of --cron, such as Europe/Berlin.  [default: UTC]")
@click.option(
    "--overlap",
    type=click.Choice(_OVERLAPS),
    metavar="POLICY",
    default="skip",
    help=f"What happens while the run before is open: {', '.join(_OVERLAPS)}.  [default: skip]",
)
@click.option("--jitter", metavar="TIME", help="Put each start off by up to so long, at random, such as 5m.")
@click.option(
    "--catch-up",
    metavar="TIME",
    help="Start what was due while the server was down, if not later.  [default: 365d]",
)
@click.option("--limit", "limits", multiple=True, metavar="KEY=N", help="A limit of each run; may be repeated.")
@click.option(
    "--context", multiple=True, metavar="KEY=VALUE", help="A value for instructions and tools; may be repeated."
)
@click.option("--paused", is_flag=True, help="Begin paused.")
@note_option
@tenant_option
@priority_option
@app_option
@queue_option
@output_option
def create(app: str | None, task_queue: str | None, output: str, **given: Any) -> None:
    """Create a schedule, by --cron, --every or both.

    Each run is named after the schedule and the time that it was due, and pinned to the agent as it is then.
    """
    from perdure.cli._context import load_project, open_client, run_async, warn_without_workers
    from perdure.cli._schedules import print_created, read_schedule

    project = load_project(app=app, task_queue=task_queue)
    name, options = read_schedule(project, **given)

    async def main() -> None:
        client = await open_client(project)
        print_created(await client.schedules.create(name, **options), output)
        await warn_without_workers(client)

    run_async(main())


@command.command(name="list", cls=Command)
@output_option
def list_(output: str) -> None:
    """List the schedules of the namespace, with their next time."""
    from perdure.cli._context import with_client
    from perdure.cli._schedules import print_schedules

    async def main(client: Any) -> Any:
        return [each async for each in client.schedules.list()]

    print_schedules(with_client(main), output)


@command.command(name="show", cls=Command)
@name_argument
@output_option
def show(name: str, output: str) -> None:
    """Show a schedule: its next times, and its latest runs."""
    from perdure.cli._context import with_client
    from perdure.cli._schedules import print_schedule

    async def main(client: Any) -> Any:
        return await client.schedules.show(name)

    print_schedule(with_client(main), output)


@command.command(name="pause", cls=Command)
@name_argument
@note_option
def pause(name: str, note: str) -> None:
    """Start nothing more until it is resumed; runs that are open go on."""
    from perdure.cli._schedules import change

    change(name, "pause", "Paused", note=note)


@command.command(name="resume", cls=Command)
@name_argument
@note_option
def resume(name: str, note: str) -> None:
    """Go on; what was due meanwhile is not made up for."""
    from perdure.cli._schedules import change

    change(name, "resume", "Resumed", note=note)


@command.command(name="trigger", cls=Command)
@name_argument
@click.option("--overlap", type=click.Choice(_OVERLAPS), metavar="POLICY", help="In place of the schedule's own.")
@output_option
def trigger(name: str, overlap: str | None, output: str) -> None:
    """Start a run now, and print its workflow id; of a schedule that is paused, too."""
    from perdure.cli._context import with_client
    from perdure.cli._schedules import print_triggered

    async def main(client: Any) -> Any:
        return await client.schedules.trigger(name, overlap=overlap)

    print_triggered(with_client(main), output)


@command.command(name="delete", cls=Command)
@name_argument
def delete(name: str) -> None:
    """Delete a schedule; runs that are open go on."""
    from perdure.cli._schedules import change

    change(name, "delete", "Deleted")
