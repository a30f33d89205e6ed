"""A workflow that continues as new, and says what it inherited."""

from temporalio import workflow

from perdure.workflows import run_agent


@workflow.defn
class Heir:
    @workflow.run
    async def run(self, generation: int) -> list[int | str | None]:
        if generation:
            workflow.continue_as_new(generation - 1)
        await run_agent("boss", "go")
        priority = workflow.info().priority
        return [priority.priority_key, priority.fairness_key]
