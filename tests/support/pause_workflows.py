"""Workflows of the user's own, to be paused and cancelled."""

import asyncio

from temporalio import workflow

from perdure.workflows import call_tool, run_agent


@workflow.defn
class Tree:
    """Of the user's own: an agent with a subagent, beside a tool."""

    @workflow.run
    async def run(self) -> str:
        answer = await run_agent("parent", "go")
        return await call_tool("note", {"text": answer})


@workflow.defn
class Relay:
    """Runs an agent, continues as new, and runs it again."""

    @workflow.run
    async def run(self, left: int) -> str:
        answer = await run_agent("child", f"leg {left}")
        if left:
            workflow.continue_as_new(left - 1)
        return answer


@workflow.defn
class SlowToLeave:
    """Cleans up for a day."""

    @workflow.run
    async def run(self) -> None:
        try:
            await asyncio.sleep(1_000_000)
        except asyncio.CancelledError:
            await asyncio.sleep(86_400)
            raise
