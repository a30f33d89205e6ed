"""Printing what agents remember."""

from collections.abc import Sequence

from perdure.cli._context import say
from perdure.cli._format import clean, one_line, size, stamp
from perdure.cli._render import console, print_items, print_json, print_table
from perdure.contracts.memory import MemoryEntry, MemoryView

_COLUMNS = ("KEY", "REMEMBERED", "EXPIRES", "RECALLS", "BY", "TEXT")


def print_memory(view: MemoryView, output: str) -> None:
    """Print a line for each entry, and on stderr how much room is left."""
    if output == "json":
        print_json(view, output)
    elif output == "jsonl":
        print_items(view.entries, output)
    elif not view.entries:
        say("Nothing is remembered.")
    else:
        print_table(console(), _COLUMNS, [_cells(each) for each in view.entries])
        entries = "1 entry" if view.dropped == 1 else f"{view.dropped:,} entries"
        made_room = f", {entries} made room" if view.dropped else ""
        say(f"{size(view.bytes)} of {size(view.max_bytes)}{made_room}")


def _cells(entry: MemoryEntry) -> tuple[str, ...]:
    expires = "never" if entry.expires_at is None else stamp(entry.expires_at)
    shown = (one_line(entry.key, 40), stamp(entry.at), expires, str(entry.recalls), clean(entry.workflow_id))
    return (*shown, one_line(entry.text, 300))


def print_forgotten(forgotten: Sequence[str], asked: Sequence[str], output: str) -> None:
    """Print the keys of what was forgotten, and on stderr those that there were not."""
    for key in asked:
        if key not in forgotten:
            say(clean(f"There was nothing under the key {key!r}."))
    if output != "text":
        print_items(list(forgotten), output)
        return
    for key in forgotten:
        print(clean(key))
