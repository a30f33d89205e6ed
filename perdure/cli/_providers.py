"""Providers, and the Task Queues of their calls, as `perdure provider` shows them."""

from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import click
from pydantic import BaseModel, ConfigDict
from temporalio.service import RPCError

from perdure.app import App
from perdure.cli._context import Project, open_client, resolve, say
from perdure.cli._render import console, print_items, print_json, print_table
from perdure.client import PerdureClient
from perdure.client._providers import QueueState, limit_queue, queue_state
from perdure.client._workers import WorkerView, ask_workers
from perdure.contracts.workers import ProviderState
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
    workers: dict[str, list[ProviderState]] = {}
    """What each live worker knows of it, by the worker's identity; one for each key that it has called it with."""
    silent_workers: list[str] = []
    """Workers that poll, but didn't answer."""


async def read_providers(project: Project) -> list[ProviderView]:
    """Return all providers; what the server, or a worker, knows is left out while it doesn't answer."""
    providers = make_providers(project.app or App(), project.settings).status()
    queues = project.settings.provider_queues()
    states, workers = await _ask(project, list(queues.values()))
    silent = [each.identity for each in workers if each.problem]
    return [
        ProviderView(
            name=each.name,
            protocol=each.protocol,
            base_url=each.base_url,
            key_set=each.key_set,
            key_env=each.key_env,
            task_queue=queues.get(each.name, ""),
            queue=states.get(queues.get(each.name, "")),
            workers=_told_of(each.name, workers),
            silent_workers=silent,
        )
        for each in providers
    ]


async def _ask(project: Project, queues: Sequence[str]) -> tuple[dict[str, QueueState], list[WorkerView]]:
    try:
        client = await open_client(project)
        states = {queue: await queue_state(client.temporal, queue) for queue in queues}
        calls = {*queues, *([project.settings.model_task_queue] if project.settings.model_task_queue else [])}
        workers = await ask_workers(client.temporal, client.task_queue, call_queues=calls)
    except (ServerUnreachableError, RPCError) as error:
        say(f"Without Task Queues and workers: {error.message}")
        return {}, []
    if not workers:
        say(f"No worker polls the Task Queue {client.task_queue!r}, so no limiter and no circuit can be shown.")
    for each in workers:
        if each.problem:
            say(f"Without the worker {each.identity}: {each.problem}.")
    return states, workers


def _told_of(provider: str, workers: Sequence[WorkerView]) -> dict[str, list[ProviderState]]:
    found = {each.identity: [state for state in each.providers if state.provider == provider] for each in workers}
    return {identity: states for identity, states in found.items() if states}


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
    columns = ("NAME", "PROTOCOL", "KEY", "TASK QUEUE", "WORKERS", "WAITING", "CALLS/S")
    rows = [
        (each.name, each.protocol, _key(each), each.task_queue or "the run's", *_cells(each.queue))
        for each in providers
    ]
    print_table(console(), columns, rows)
    known = [
        (each.name, identity, *_limiter(state))
        for each in providers
        for identity, states in each.workers.items()
        for state in states
    ]
    if known:
        console().print()
        columns = ("NAME", "WORKER", "CIRCUIT", "WAITING", "429S", "PACE", "LIMITS A MINUTE")
        print_table(console(), columns, known)


def _limiter(state: ProviderState) -> tuple[str, ...]:
    """Return what a worker knows of a provider, in cells."""
    circuit = state.circuit
    if circuit == "open":
        circuit += f", {state.failures} outages, tried again in {state.probe_in_seconds:g} s"
    pace = f"{state.pace:.0%}" if not state.held_seconds else f"held for {state.held_seconds:g} s"
    limits = ", ".join(f"{each.per_minute:g} {each.counted}" for each in state.limits) or "none known"
    if state.limits and state.sharers > 1:
        limits += f", shared by {state.sharers} workers"
    return circuit, str(state.waiting), str(state.refusals), pace, limits


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
