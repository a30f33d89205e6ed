"""Workflows of a user's own that spend, in all the ways there are."""

from temporalio import workflow

from perdure.workflows import gather, run_agent


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
class Generations:
    """Spends, and continues as new."""

    @workflow.run
    async def run(self, left: int) -> int:
        """Return how often the agent could not answer."""
        failed = await gather(run_agent("worker", f"generation {left}"), on_error="collect")
        if left == 0 or not isinstance(failed[0], str):
            return left
        workflow.continue_as_new(left - 1)
