"""Showing what goes on."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from perdure.cli._format import clean, cost, duration, one_line, plural
from perdure.cli._render import console, print_json, print_whole
from perdure.cli._runs import state_text
from perdure.client import PerdureClient, QueueLoad, Top, TopRun


async def show_top(client: PerdureClient, output: str, *, is_once: bool, interval: float, **chosen: Any) -> None:
    """Look, and look again until interrupted; once where nobody watches."""
    out = console()
    if output == "jsonl" and not is_once:
        while True:
            print_json(await client.top(**chosen), output)
            await asyncio.sleep(interval)
    if output != "text":
        print_json(await client.top(**chosen), output)
    elif is_once or not out.is_terminal:
        print_whole(out, *drawn(await client.top(**chosen)))
    else:
        with Live(console=out, screen=True, auto_refresh=False) as live:
            while True:
                live.update(Group(*drawn(await client.top(**chosen))), refresh=True)
                await asyncio.sleep(interval)


def drawn(top: Top) -> Iterator[RenderableType]:
    """Yield the parts of what is shown."""
    yield _head(top)
    yield Text()
    yield _table(("TASK QUEUE", "TASKS", "BACKLOG", "OLDEST", "IN/S", "OUT/S", "WORKERS"), map(_queue, top.queues))
    yield Text()
    if top.runs:
        yield _table(("STATE", "AGENT", "TIME", "TURNS", "TOKENS", "COST", "ID", "DOES"), map(_run, top.runs))
    else:
        yield Text("No open runs.", style="dim")
    left_out = top.open - len(top.runs)
    if top.runs and left_out > 0:
        yield Text(f"… {left_out:,} more open runs: `perdure list --status running`", style="dim")


def _head(top: Top) -> Text:
    ended = ", ".join(f"{number:,} {status.replace('_', ' ')}" for status, number in top.closed_per_minute.items())
    states = Counter(run.info.state for run in top.runs if run.info.state and run.info.state.startswith("waiting"))
    waiting = "".join(f", {number} {str(state).replace('_', ' ')}" for state, number in states.items())
    least = "at least " if top.is_spent_partial else ""
    parts = (
        f"{plural(top.open, 'run')} open{waiting}",
        f"last minute: {top.started_per_minute:,} started, {ended or '0 closed'}",
        f"last hour: {least}{cost(top.spent_usd_last_hour)}",
        top.at.strftime("%H:%M:%SZ"),
    )
    return Text(" · ".join(parts), style="bold")


def _table(columns: tuple[str, ...], rows: Iterator[tuple[str | Text, ...]]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for column in columns:
        table.add_column(column, no_wrap=True, overflow="ellipsis")
    for row in rows:
        table.add_row(*row)
    return table


def _queue(load: QueueLoad) -> tuple[str | Text, ...]:
    workers = Text(f"{len(load.workers)}: {clean(', '.join(load.workers[:4]))}" if load.workers else "none")
    workers.stylize("red" if not load.workers else "")
    return (
        clean(load.task_queue),
        load.kind,
        Text(f"{load.backlog:,}" if load.backlog else "", style="yellow"),
        duration(timedelta(seconds=load.oldest_seconds)) if load.backlog else "",
        f"{load.added_per_second:g}" if load.added_per_second else "",
        f"{load.taken_per_second:g}" if load.taken_per_second else "",
        workers,
    )


def _run(run: TopRun) -> tuple[str | Text, ...]:
    return (
        state_text(run.info),
        clean(run.info.agent or run.info.workflow),
        duration(datetime.now(UTC) - run.info.started_at),
        "" if run.turns is None else f"{run.turns:,}",
        f"{run.tokens:,}" if run.tokens else "",
        cost(run.cost_usd) if run.cost_usd else "",
        clean(run.info.workflow_id),
        one_line(run.activity, 80),
    )
