"""Workflows of a user's own that wait for people."""

from datetime import timedelta
from typing import Any

from pydantic import BaseModel
from temporalio import workflow

from perdure.errors import PerdureError
from perdure.workflows import ask_human, call_tool, gather, run_agent


class Size(BaseModel):
    width: int
    height: int


@workflow.defn
class Asking:
    """Asks people in each way."""

    @workflow.run
    async def run(self, timeout_seconds: float) -> list[Any]:
        name = await ask_human("What is your name?")
        size = await ask_human("How large?", output=Size)
        told: list[Any] = [name, size.width * size.height]
        try:
            told.append(
                await ask_human("Now?", schema={"enum": [1, 2]}, timeout=timedelta(seconds=timeout_seconds))
            )
        except PerdureError as error:
            told.append(f"{error.type}: {error.message}")
        return told


@workflow.defn
class Stepping:
    """Calls tools that need approval, without a model and by an agent in its own history."""

    @workflow.run
    async def run(self, script: str) -> list[str]:
        found = await gather(
            call_tool("deploy", {"target": "a"}),
            call_tool("deploy", {"target": "b"}),
            call_tool("pay", {"amount": 5}),
            run_agent("helper", script, inline=True),
            on_error="collect",
        )
        return [f"{each.type}: {each.message}" if isinstance(each, PerdureError) else str(each) for each in found]


WORKFLOWS = [Asking, Stepping]
