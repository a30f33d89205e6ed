"""What plans and maps are measured against: a bare parent that starts each child the moment it may.

A bare child has one activity, as an agent that answers at once: it asks the same model, or does nothing.
"""

import asyncio
from collections.abc import Sequence
from datetime import timedelta

from temporalio import workflow

from bench.floors import NaiveActivities, NaiveCall, empty

_MINUTE = timedelta(minutes=1)


@workflow.defn(name="BareChild", sandboxed=False)
class BareChild:
    """One activity."""

    @workflow.run
    async def run(self, item: str, model: str) -> str:
        """Ask a model about the item; do nothing if it has no name."""
        if model:
            call = NaiveCall(model, [{"role": "user", "content": item}])
            await workflow.execute_activity_method(NaiveActivities.ask, call, start_to_close_timeout=_MINUTE)
        else:
            await workflow.execute_activity(empty, start_to_close_timeout=_MINUTE)
        return item


@workflow.defn(name="BareParent", sandboxed=False)
class BareParent:
    """Children with needs; all of them its own."""

    @workflow.run
    async def run(self, needs: list[list[int]], model: str, at_once: int) -> int:
        """Run a child for each element, once the children that it names are over; return how many there were."""
        done = [asyncio.Event() for _ in needs]
        gate = asyncio.Semaphore(at_once)

        async def work(number: int) -> None:
            for need in needs[number]:
                await done[need].wait()
            async with gate:
                child_id = f"{workflow.info().workflow_id}/{number}"
                await workflow.execute_child_workflow(BareChild.run, args=[f"item {number}", model], id=child_id)
            done[number].set()

        await asyncio.gather(*(work(number) for number in range(len(needs))))
        return len(needs)


WORKFLOWS: Sequence[type] = (BareParent, BareChild)
