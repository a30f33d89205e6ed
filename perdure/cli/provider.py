"""`perdure provider`: vendors, and the Task Queues of their calls."""

import click

from perdure.cli._command import Command, app_option, output_option, queue_option


@click.group(name="provider")
def command() -> None:
    """Show providers, and limit the Task Queues of their calls."""


@command.command(name="list", cls=Command)
@app_option
@queue_option
@output_option
def list_(app: str | None, task_queue: str | None, output: str) -> None:
    """List the providers: whether their key is set here, and how their calls stand.

    Of a Task Queue of their own, what waits there, and how fast it goes. Of each live worker, what it knows of the
    vendor's limits, and whether its circuit is open; workers are asked for three seconds at most.
    """
    from perdure.cli._context import load_project, run_async
    from perdure.cli._providers import print_providers, read_providers

    print_providers(run_async(read_providers(load_project(app=app, task_queue=task_queue))), output)


@command.command(name="limit", cls=Command)
@click.argument("name", metavar="NAME")
@click.argument("rate", metavar="N")
@queue_option
@output_option
def limit(name: str, rate: str, task_queue: str | None, output: str) -> None:
    """Hand out at most N calls of a provider a second, over all workers, from now on.

    N goes over max_requests_per_second of the settings, until it is changed, or taken back by `default`. The
    provider needs a Task Queue of its own. Temporal lets a burst through first: stay at 80 % of what the vendor
    allows.
    """
    from perdure.cli._context import with_client
    from perdure.cli._providers import change_limit, print_queue

    print_queue(name, with_client(change_limit(name, rate, task_queue), task_queue=task_queue), output)
