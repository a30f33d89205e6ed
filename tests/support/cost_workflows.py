"""Workflows of a user's own with inline agents, which end in all the ways there are."""

from temporalio import workflow

from perdure.errors import TaskFailed
from perdure.workflows import run_agent


@workflow.defn
class Desk:
    """Asks two agents inline, in as many runs as it is told, and ends as it is told."""

    @workflow.run
    async def run(self, left: int, end: str) -> str:
        """Return what the second said."""
        await run_agent("plain", "go", inline=True)
        answer: str = await run_agent("falls", "go", inline=True)
        if left:
            workflow.continue_as_new(args=[left - 1, end])
        if end == "fail":
            raise TaskFailed("as it was told")
        await workflow.wait_condition(lambda: end != "wait")
        return answer


@workflow.defn
class Office:
    """Has a desk below it."""

    @workflow.run
    async def run(self, end: str) -> str:
        """Return what the desk said."""
        name = f"{workflow.info().workflow_id}/desk"
        return await workflow.execute_child_workflow(Desk.run, args=[0, end], id=name)
