"""`perdure map`: read the items, follow the map, print what became of each."""

import asyncio
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from rich.live import Live
from rich.text import Text

from perdure.cli._context import say, warn_without_workers
from perdure.cli._errors import run_outcome
from perdure.cli._format import plural
from perdure.cli._input import agent_input, check_text, parse_context, parse_limits, read_input
from perdure.cli._outcome import print_outcomes
from perdure.cli._render import console
from perdure.contracts.map import MapProgress, MapResult, OnError
from perdure.contracts.messages import ContentPart
from perdure.errors import InvalidInputError, NoWorkerError, RunNotFoundError

if TYPE_CHECKING:
    from pydantic import JsonValue

    from perdure.client import PerdureClient
    from perdure.contracts.limits import Limits

_POLL_SECONDS = 1.0


@dataclass(frozen=True, kw_only=True)
class MapStart:
    """A map to start, checked as far as that goes without the server."""

    agent: str
    items: Sequence[str | Sequence[ContentPart]]
    max_parallel: int
    on_error: OnError
    id: str | None
    limits: "Limits | None"
    context: "dict[str, JsonValue] | None"
    tenant: str
    priority: int | None


def prepare(
    *,
    agent: str,
    source: str,
    max_parallel: int,
    on_error: OnError,
    workflow_id: str | None,
    limits: Iterable[str],
    context: Iterable[str],
    tenant: str,
    priority: int | None,
) -> MapStart:
    """Return what to start.

    Raises:
        InvalidInputError: Not retryable.
    """
    return MapStart(
        agent=agent,
        items=parse_items(read_input(source)),
        max_parallel=max_parallel,
        on_error=on_error,
        id=workflow_id,
        limits=parse_limits(limits),
        context=parse_context(context),
        tenant=tenant,
        priority=priority,
    )


def parse_items(text: str) -> list[str | Sequence[ContentPart]]:
    """Return the elements of a JSON array, else the lines that are not empty.

    An element that is no text is given to the agent as JSON, or as content parts where it is a list of those.

    Raises:
        InvalidInputError: There is no item. Not retryable.
    """
    value: Any = None
    if text.lstrip().startswith("["):
        try:
            value = json.loads(text)
        except ValueError:
            value = None
    items: list[str | Sequence[ContentPart]]
    check_text(value)
    if isinstance(value, list):
        items = [_item(each) for each in cast("list[Any]", value)]
    else:
        lines = (line.removesuffix("\r") for line in text.split("\n"))  # not at what else splitlines() cuts at
        items = [line for line in lines if line.strip()]
    if not items:
        raise InvalidInputError("There are no items: give lines of text, or a JSON array, by --items @FILE.")
    return items


def _item(value: Any) -> str | Sequence[ContentPart]:
    return value if isinstance(value, str) else agent_input(json.dumps(value, ensure_ascii=False))


async def run_map(client: "PerdureClient", start: MapStart, output: str) -> None:
    """Start a map, follow it and print its outcomes.

    Raises:
        RunFailed: It did not complete.
    """
    started = await client.start_map(
        start.agent,
        start.items,
        max_parallel=start.max_parallel,
        on_error=start.on_error,
        id=start.id,
        limits=start.limits,
        context=start.context,
        tenant=start.tenant,
        priority=start.priority,
    )
    say(f"Started {started.workflow_id}: {plural(len(start.items), 'item')}.")
    await warn_without_workers(client)
    try:
        with run_outcome(output):
            result = await _follow(client, started.workflow_id)
    except asyncio.CancelledError:
        say(
            f"\nThe map {started.workflow_id} goes on. `perdure result {started.workflow_id}` waits for it and"
            f" prints the outcomes, `perdure query {started.workflow_id} perdure.map` says where it stands,"
            f" `perdure cancel {started.workflow_id}` ends it."
        )
        raise
    print_outcomes(result, output)


async def _follow(client: "PerdureClient", workflow_id: str) -> MapResult:
    """Show where a map stands until it is over."""
    err = console(is_stderr=True)
    ending = asyncio.create_task(client.result(workflow_id))
    shown = ""
    try:
        with Live(Text(), console=err, transient=True, auto_refresh=False) as live:
            while not ending.done():
                await asyncio.wait([ending], timeout=_POLL_SECONDS)
                line = "" if ending.done() else await _progress_line(client, workflow_id)
                if not line or line == shown:
                    continue
                shown = line
                if err.is_terminal:
                    live.update(Text(line), refresh=True)
                else:
                    say(line)
        return cast("MapResult", await ending)
    finally:
        ending.cancel()


async def _progress_line(client: "PerdureClient", workflow_id: str) -> str:
    try:
        return progress_text(await client.map_progress(workflow_id))
    except (NoWorkerError, RunNotFoundError, InvalidInputError):
        return ""  # nobody answers just now, or the map ended meanwhile


def progress_text(progress: MapProgress) -> str:
    """Return where a map stands, in words."""
    failed = f" · {progress.failed:,} failed" if progress.failed else ""
    return f"{progress.done:,} of {progress.total:,} done{failed} · {progress.running:,} running"
