"""Workflows that map agents over items."""

import asyncio
from typing import Any, Literal

from temporalio import workflow

from perdure.contracts.map import MapInput
from perdure.errors import PerdureError
from perdure.workflows import call_tool, map_agent
from perdure.workflows.mapping import _run_tree, item_sizes


@workflow.defn
class Mapped:
    @workflow.run
    async def run(
        self, agent: str, items: list[str], max_parallel: int, on_error: Literal["fail", "collect"]
    ) -> list[Any]:
        try:
            found = await map_agent(agent, items, max_parallel=max_parallel, on_error=on_error)
        except asyncio.CancelledError:
            await asyncio.shield(call_tool("note", {"text": "cleaned up"}))
            raise
        return [
            [each.type, each.message, each.attributes] if isinstance(each, PerdureError) else each
            for each in found
        ]


@workflow.defn
class MappedSizes:
    """Returns how long each output is."""

    @workflow.run
    async def run(self, agent: str, items: list[str]) -> list[int]:
        return [len(each) for each in await map_agent(agent, items, output=str, max_parallel=20)]


@workflow.defn
class TreeSizes:
    """Does the same as a tree, which takes 201 items of `map_agent`."""

    @workflow.run
    async def run(self, agent: str, items: list[str]) -> list[int]:
        request = MapInput(agent=agent, items=tuple(items), max_parallel=10)
        found = await _run_tree(request, item_sizes(request), workflow.info().workflow_id)
        return [len(each) for each in found]
