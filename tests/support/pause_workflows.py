"""Workflows of the user's own, to be paused."""

from temporalio import workflow

from perdure.workflows import call_tool, run_agent


@workflow.defn
class Tree:
    """Of the user's own: an agent with a subagent, beside a tool."""

    @workflow.run
    async def run(self) -> str:
        answer = await run_agent("parent", "go")
        return await call_tool("note", {"text": answer})
