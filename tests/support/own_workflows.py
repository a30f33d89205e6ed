"""Workflows of a user's own, in a module as light as the sandbox wants it."""

import asyncio
from datetime import timedelta
from typing import Any

from temporalio import activity, workflow

from perdure.contracts.limits import Limits
from perdure.errors import PerdureError, ToolError
from perdure.workflows import call_tool, gather, run_agent


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


@workflow.defn
class Steps:
    """Agents apart and inline, and a tool, one after another."""

    @workflow.run
    async def run(self, text: str) -> list[Any]:
        apart = await run_agent("echo", text)
        inline = await run_agent("worker", text, inline=True)
        number = await call_tool("add", {"a": 20, "b": 22}, output=int)
        return [apart, inline, number]


@workflow.defn
class FanOut:
    """Many agents at once; what fails is handled as asked."""

    @workflow.run
    async def run(self, inputs: list[str], on_error: str, max_parallel: int) -> list[str]:
        runs = [run_agent("echo", text) for text in inputs]
        if on_error == "fail":
            return await gather(*runs, on_error="fail", max_parallel=max_parallel)
        found = await gather(*runs, on_error="collect", max_parallel=max_parallel)
        return [
            f"{type(each).__name__}: {each.message}" if isinstance(each, PerdureError) else each for each in found
        ]


@workflow.defn
class Race:
    """Agents at work when one of them fails."""

    @workflow.run
    async def run(self, count: int) -> None:
        slow = [run_agent("slow", f"wait {n}") for n in range(count)]
        await gather(*slow, run_agent("late", "bad"), on_error="fail")


@workflow.defn
class ToolTroubles:
    @workflow.run
    async def run(self) -> list[str]:
        told: list[str] = []
        for name, args in (("fail", {"reason": "no"}), ("ad", {}), ("add", {"a": "x"})):
            try:
                await call_tool(name, args)  # pyright: ignore[reportArgumentType]
            except ToolError as error:
                told.append(f"{error.type}: {error.message}")
            except PerdureError as error:
                told.append(f"{error.type}: {error.message}")
        return told


@workflow.defn
class Short:
    """An inline agent that never comes to an end."""

    @workflow.run
    async def run(self) -> str:
        return str(await run_agent("worker", "go", inline=True, limits=Limits(max_turns=2)))


@workflow.defn
class CleanUp:
    """Waits for agents, and cleans up when it is cancelled."""

    @workflow.run
    async def run(self, count: int) -> None:
        try:
            await gather(*(run_agent("slow", f"wait {n}") for n in range(count)))
        except asyncio.CancelledError:
            await asyncio.shield(call_tool("add", {"a": 1, "b": 1}))
            raise


@workflow.defn
class Twins:
    """Gives two children one id."""

    @workflow.run
    async def run(self, agent: str) -> None:
        name = f"{workflow.info().workflow_id}/twin"
        await gather(*(run_agent(agent, "hello", id=name) for _ in range(2)))
