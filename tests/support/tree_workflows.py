"""Workflows of a user's own with runs below runs, and a clean-up."""

import asyncio

from temporalio import workflow
from temporalio.workflow import ChildWorkflowCancellationType

from perdure.workflows import call_tool, gather, run_agent


@workflow.defn
class Inner:
    """Agents, one of which fails."""

    @workflow.run
    async def run(self, count: int) -> int:
        found = await gather(*(run_agent("worker", f"item {n}") for n in range(count)), on_error="collect")
        await gather(run_agent("worker", "fail"), on_error="collect")
        return len(found)


@workflow.defn
class Outer:
    """An agent, a workflow of agents, and a wait."""

    def __init__(self) -> None:
        self._is_closed = False

    @workflow.run
    async def run(self, count: int) -> int:
        await run_agent("worker", "first")
        number = await workflow.execute_child_workflow(Inner.run, count, id=f"{workflow.info().workflow_id}/inner")
        await workflow.wait_condition(lambda: self._is_closed)
        return number

    @workflow.signal
    def close(self) -> None:
        self._is_closed = True


@workflow.defn
class Tidy:
    """Waits, and leaves a trace of its clean-up."""

    @workflow.run
    async def run(self, name: str) -> None:
        try:
            await run_agent("slow", name)
        finally:
            await asyncio.shield(call_tool("note", {"text": f"tidied {name}"}))


@workflow.defn
class ManyTidy:
    """Waits for many of them."""

    @workflow.run
    async def run(self, count: int) -> None:
        prefix = workflow.info().workflow_id
        await gather(
            *(
                workflow.execute_child_workflow(
                    Tidy.run,
                    str(n),
                    id=f"{prefix}/{n}",
                    cancellation_type=ChildWorkflowCancellationType.WAIT_CANCELLATION_COMPLETED,
                )
                for n in range(count)
            )
        )


@workflow.defn
class ManyAgents:
    """Waits for many agents."""

    @workflow.run
    async def run(self, count: int) -> None:
        try:
            await gather(*(run_agent("slow", str(n)) for n in range(count)))
        finally:
            await asyncio.shield(call_tool("note", {"text": "tidied"}))
