"""A workflow of a user's own, in a module of its own for the sandbox."""

from temporalio import workflow

from perdure.workflows import run_agent


@workflow.defn
class Own:
    """Runs an agent; it has details of its own where it is given any."""

    @workflow.run
    async def run(self, text: str) -> object:
        if text:
            workflow.set_current_details(text)
        return await run_agent("helper", "help")
