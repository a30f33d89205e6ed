"""Providers, and the Task Queues of their calls, as `perdure provider` shows them."""

from collections.abc import Callable, Coroutine
from typing import Any

import click
from pydantic import BaseModel, ConfigDict
from rich.table import Table
from temporalio.service import RPCError

from perdure.app import App
from perdure.cli._context import Project, open_client, resolve, say
from perdure.cli._render import console, print_items, print_json
from perdure.client import PerdureClient
from perdure.client._providers import QueueState, limit_queue, queue_state
from perdure.errors import InvalidInputError, ServerUnreachableError, SettingsError, suggest
from perdure.wiring import make_providers


class ProviderView(BaseModel):
    """What is known of a provider here."""

    model_config = ConfigDict(frozen=True)

    name: str
    protocol: str
    base_url: str
    key_set: str
    key_env: str | None
    task_queue: str = ""
    queue: QueueState | None = None
    """None without a Task Queue of its own, or while the server doesn't answer."""


async def read_providers(project: Project) -> list[ProviderView]:
    """Return all providers; what the server knows is left out while it doesn't answer."""
    queues = project.settings.provider_queues()
    states = await _queue_states(project, list(queues.values())) if queues else {}
    return [
        ProviderView(
            name=each.name,
            protocol=each.protocol,
            base_url=each.base_url,
            key_set=each.key_set,
            key_env=each.key_env,
            task_queue=queues.get(each.name, ""),
            queue=states.get(queues.get(each.name, "")),
        )
        for each in make_providers(project.app or App(), project.settings).status()
    ]


async def _queue_states(project: Project, queues: list[str]) -> dict[str, QueueState]:
    try:
        client = await open_client(project)
        return {queue: await queue_state(client.temporal, queue) for queue in queues}
    except (ServerUnreachableError, RPCError) as error:
        say(f"Without the Task Queues: {error.message}")
        return {}


def change_limit(
    name: str, rate: str, task_queue: str | None
) -> Callable[[PerdureClient], Coroutine[Any, Any, QueueState]]:
    """Return what changes the rate of a provider's Task Queue, with everything checked that can be.

    Raises:
        SettingsError: The provider has no Task Queue of its own. Not retryable.
        InvalidInputError: No rate. Not retryable.
    """
    settings = resolve(task_queue=task_queue).settings
    queue = settings.provider_queues().get(name)
    if queue is None:
        known = settings.provider_queues()
        raise SettingsError(
            f"The calls of {name!r} have no Task Queue of their own.{suggest(name, known)}"
            f" Set task_queue in [tool.perdure.providers.{name}], and restart the workers."
        )
    try:
        per_second = None if rate == "default" else float(rate)
    except ValueError:
        raise InvalidInputError(f"{rate!r} is no number of calls a second, and not 'default'.") from None
    return lambda client: limit_queue(client.temporal, queue, per_second)


def print_providers(providers: list[ProviderView], output: str) -> None:
    """Print a table, or the data."""
    if output != "text":
        print_items(providers, output)
        return
    table = Table(box=None, pad_edge=False)
    for column in ("NAME", "PROTOCOL", "KEY", "TASK QUEUE", "WORKERS", "WAITING", "CALLS/S"):
        table.add_column(column, overflow="fold")
    for each in providers:
        table.add_row(each.name, each.protocol, _key(each), each.task_queue or "the run's", *_cells(each.queue))
    console().print(table)


def _key(provider: ProviderView) -> str:
    if provider.key_env is None:
        return provider.key_set
    return f"{provider.key_env} {'is set' if provider.key_set == 'yes' else 'is not set'}"


def _cells(queue: QueueState | None) -> tuple[str, str, str]:
    if queue is None:
        return ("", "", "")
    return str(queue.workers), str(queue.backlog), _rate(queue)


def _rate(queue: QueueState) -> str:
    return "no limit" if queue.max_requests_per_second is None else f"{queue.max_requests_per_second:g}"


def print_queue(name: str, queue: QueueState, output: str) -> None:
    """Say how the queue of a provider goes now."""
    if output != "text":
        print_json(queue, output)
        return
    by = f" ({queue.set_by})" if queue.set_by else ""
    click.echo(f"{name}: {_rate(queue)} calls a second{by}, {queue.backlog} waiting in {queue.task_queue!r}.")
    if not queue.workers:
        say(f"Warning: no worker polls the Task Queue {queue.task_queue!r}; start one with `perdure worker`.")
