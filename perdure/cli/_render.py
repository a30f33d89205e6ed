"""Printing: rich on a terminal; when piped plain lines, as long as they are. JSON is only JSON."""

import sys
from collections.abc import Iterable, Sequence
from typing import Any

import click
from pydantic_core import to_json
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from perdure.contracts._base import WHOLE

_PLAIN_WIDTH = 1_000_000


def console(*, is_stderr: bool = False) -> Console:
    """Return a console of stdout or stderr."""
    file = sys.stderr if is_stderr else sys.stdout
    width = None if file.isatty() else _PLAIN_WIDTH
    return Console(file=file, width=width, highlight=False, markup=False, emoji=False)


def print_json(value: Any, output: str) -> None:
    """Print one value: indented as `json`, on a line as `jsonl`."""
    click.echo(to_json(value, indent=2 if output == "json" else None, context=WHOLE))


def print_items(items: Sequence[Any], output: str) -> None:
    """Print several values: an array as `json`, a line each as `jsonl`."""
    if output == "json":
        click.echo(to_json(items, indent=2, context=WHOLE))
        return
    for item in items:
        click.echo(to_json(item, context=WHOLE))


def print_table(out: Console, columns: Sequence[str], rows: Iterable[Sequence[str | Text]]) -> None:
    """Print rows under their headings; the last column takes what is left of a line."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for column in columns:
        table.add_column(column, no_wrap=column is not columns[-1], overflow="fold")
    for row in rows:
        table.add_row(*row)
    print_whole(out, table)


def print_pairs(out: Console, pairs: Iterable[tuple[str, str | Text]], *, width: int = 12) -> None:
    """Print labels and values, the values under each other."""
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(min_width=width, no_wrap=True, style="dim")
    grid.add_column(overflow="fold")
    for label, value in pairs:
        grid.add_row(label, value)
    print_whole(out, grid)


def print_rows(out: Console, rows: Iterable[Sequence[str | Text]], *, widths: Sequence[int]) -> None:
    """Print rows without headings, their first columns at least so wide, two spaces in."""
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(min_width=0)
    for width in widths:
        grid.add_column(min_width=width, no_wrap=True)
    grid.add_column(overflow="fold")
    for row in rows:
        grid.add_row("", *row)
    print_whole(out, grid)


def print_lines(out: Console, lines: Iterable[Text]) -> None:
    """Print lines, each as long as the terminal is wide at most."""
    for line in lines:
        if out.is_terminal:
            out.print(line, no_wrap=True, overflow="ellipsis")
        else:
            out.file.write(line.plain.rstrip() + "\n")


def print_labelled(out: Console, label: str | Text, body: str | Text, *, width: int = 10) -> None:
    """Print a text with a label in front, and its other lines under its first."""
    if out.is_terminal:
        grid = Table.grid(padding=(0, 1, 0, 0))
        grid.add_column(min_width=width, no_wrap=True)
        grid.add_column(overflow="fold")
        grid.add_row(label, body)
        out.print(grid)
        return
    lines = str(body).splitlines() or [""]
    out.file.write(f"{str(label).ljust(width)} {lines[0]}".rstrip() + "\n")
    for line in lines[1:]:
        out.file.write(f"{' ' * (width + 1)}{line}".rstrip() + "\n")


def print_whole(out: Console, *what: RenderableType) -> None:
    """Print what rich draws; when piped without colours, and no line is folded."""
    if out.is_terminal:
        out.print(*what, sep="\n")
        return
    with out.capture() as captured:
        out.print(*what, sep="\n")
    for line in captured.get().splitlines():
        out.file.write(line.rstrip() + "\n")


_STYLES = {
    "running": "cyan",
    "completed": "green",
    "failed": "red",
    "terminated": "red",
    "timed_out": "red",
    "canceled": "yellow",
    "paused": "yellow",
}


def status_text(status: str) -> Text:
    """Return a run's status in its colour."""
    return Text(status.replace("_", " "), style=_STYLES.get(status, ""))
