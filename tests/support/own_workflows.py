"""Workflows of a user's own, in a module as light as the sandbox wants it."""

from datetime import timedelta

from temporalio import activity, workflow


@activity.defn
async def greet(name: str) -> str:
    return f"Hello, {name}"


@workflow.defn
class Greeting:
    @workflow.run
    async def run(self, name: str) -> str:
        return await workflow.execute_activity(greet, name, start_to_close_timeout=timedelta(seconds=5))


@workflow.defn
class Broken:
    @workflow.run
    async def run(self) -> None:
        raise KeyError("a defect of the user's")
