"""Workflows of a user's own that are started again."""

from typing import Any

from temporalio import workflow

from perdure.contracts.map import MapInput
from perdure.workflows import call_tool, gather, map_agent, run_agent
from perdure.workflows.mapping import _run_tree, item_sizes


@workflow.defn
class Chain:
    """Steps one after another, then some at once."""

    @workflow.run
    async def run(self, text: str) -> list[Any]:
        first = await run_agent("stepper", f"{text}-a")
        paid = await call_tool("pay", {"what": f"{text}-paid"})
        rest = await gather(*(run_agent("stepper", f"{text}-{n}") for n in range(3)))
        return [first, paid, *rest]


@workflow.defn
class Mapped:
    """A map as a step."""

    @workflow.run
    async def run(self, count: int) -> list[str]:
        return await map_agent("stepper", [f"m{n}" for n in range(count)], max_parallel=4)


@workflow.defn
class MappedAsTree:
    """The same as a tree, which takes 201 items of `map_agent`."""

    @workflow.run
    async def run(self, request: MapInput) -> list[str]:
        return await _run_tree(request, item_sizes(request), f"{workflow.info().workflow_id}/map")
