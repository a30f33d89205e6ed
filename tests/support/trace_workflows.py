"""A workflow of a user's own that continues as new."""

from datetime import timedelta

from temporalio import workflow

from perdure.workflows import run_agent


@workflow.defn
class Relay:
    """Continues as new once, then runs an agent."""

    @workflow.run
    async def run(self, is_second: bool) -> str:
        if not is_second:
            await workflow.sleep(timedelta(milliseconds=10))
            workflow.continue_as_new(True)
        return str(await run_agent("helper", "from the relay"))
