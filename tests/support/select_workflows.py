"""Workflows of a user's own that choose agents, in the sandbox."""

from typing import Any

from temporalio import workflow

from perdure.contracts.selection import Selection
from perdure.errors import PerdureError
from perdure.workflows import record_outcome, run_agent, select_agent


@workflow.defn
class Choosing:
    """Chooses an agent for each task and runs it; what goes wrong is told."""

    @workflow.run
    async def run(self, texts: list[str], options: dict[str, Any]) -> list[Selection]:
        chosen: list[Selection] = []
        for text in texts:
            each = await select_agent(text, **options)
            chosen.append(each)
            try:
                await run_agent(each.agent, text, kind=each.kind, inline=text.startswith("inline"))
            except PerdureError as error:
                chosen.append(each.model_copy(update={"note": f"{error.type}"}))
        return chosen


@workflow.defn
class Telling:
    """Tells of many outcomes at once, and ends as asked."""

    @workflow.run
    async def run(self, agent: str, count: int, end: str) -> None:
        for number in range(count):
            record_outcome(agent, kind="told", is_success=number % 10 > 0, cost_usd=0.5, seconds=2)
        if end == "continue":
            workflow.continue_as_new(args=[agent, count, "return"])
        if end == "wait":
            await workflow.wait_condition(lambda: False)
        if end == "fail":
            record_outcome(agent, score=2)


@workflow.defn
class Impossible:
    """Asks for what nobody can do."""

    @workflow.run
    async def run(self) -> Selection:
        return await select_agent("x", capabilities=["to fly"])
