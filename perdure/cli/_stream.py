"""Printing values as they come: `jsonl` at once, `json` as an array at the end."""

from collections.abc import AsyncIterator
from typing import Any

from perdure.cli._render import print_items


async def stream(values: AsyncIterator[Any], output: str) -> list[Any]:
    """Print what comes, and return it; text is left to the caller."""
    collected: list[Any] = []
    async for value in values:
        if output == "jsonl":
            print_items([value], output)
        else:
            collected.append(value)
    if output == "json":
        print_items(collected, output)
    return collected
