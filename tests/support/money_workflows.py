"""Workflows of a user's own that spend, in all the ways there are."""

from contextlib import suppress

from temporalio import workflow

from perdure.contracts.map import MapInput
from perdure.errors import RunError
from perdure.workflows import gather, run_agent
from perdure.workflows.mapping import _run_tree, item_sizes


@workflow.defn
class Spending:
    """Runs agents apart and inline, and a workflow below it that does so too."""

    @workflow.run
    async def run(self, levels: int) -> int:
        """Return how many agents answered."""
        steps = [run_agent("worker", f"apart {n}") for n in range(3)]
        steps.append(run_agent("worker", "inline", inline=True))
        if levels:
            steps.append(self._below(levels))
        found = await gather(*steps, on_error="collect")
        return sum(each if isinstance(each, int) else isinstance(each, str) for each in found)

    async def _below(self, levels: int) -> int:
        name = f"{workflow.info().workflow_id}/below"
        return await workflow.execute_child_workflow(Spending.run, levels - 1, id=name)


@workflow.defn
class Halting:
    """Runs agents, of which one fails while another is at work; then one more."""

    @workflow.run
    async def run(self, is_map: bool) -> str:
        """Return what the last one answers."""
        items = ("slow", "fails")
        with suppress(RunError):
            if is_map:  # as a tree, which takes 201 items of `map_agent`
                request = MapInput(agent="worker", items=items, max_parallel=2)
                await _run_tree(request, item_sizes(request), workflow.info().workflow_id)
            else:
                await gather(*(run_agent("worker", item) for item in items))
        return await run_agent("worker", "the last")


@workflow.defn
class Generations:
    """Spends, and continues as new."""

    @workflow.run
    async def run(self, left: int) -> int:
        """Return how often the agent could not answer."""
        failed = await gather(run_agent("worker", f"generation {left}"), on_error="collect")
        if left == 0 or not isinstance(failed[0], str):
            return left
        workflow.continue_as_new(left - 1)
