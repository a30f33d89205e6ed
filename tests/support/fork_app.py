"""Agents that take ten turns, and count what is asked of whom and what is done."""

import asyncio
from collections import Counter
from typing import Any

from perdure import Agent, App, Limits, ToolContext, tool
from perdure.contracts.messages import Message, ToolResultPart
from perdure.testing import ScriptedModel, calls

TURNS = 10
asked: Counter[str] = Counter()
"""Model calls, by model and turn."""
effects: list[tuple[int, str]] = []
"""Tool calls: the number, and the idempotency key."""
hanging: set[int] = set()
"""Numbers at which the tool doesn't return."""


def forget() -> None:
    asked.clear()
    effects.clear()
    hanging.clear()


@tool(idempotent=True)
async def draw(number: int, ctx: ToolContext) -> str:
    """Draw a card."""
    effects.append((number, ctx.idempotency_key))
    while number in hanging:
        await asyncio.sleep(0.05)
    return f"card {number}"


def _results(messages: list[Message]) -> list[str]:
    parts = [part for message in messages for part in message.parts if isinstance(part, ToolResultPart)]
    return [getattr(part.content[0], "text", "") for part in parts]


def _script(request: Any, messages: list[Message]) -> Any:
    """Draw a card a turn, and answer in the tenth with all of them; answer at once to what is said after that."""
    turn = sum(message.role == "assistant" for message in messages) + 1
    asked[f"{request.model}:{turn}"] += 1
    if turn < TURNS:
        return calls(("draw", {"number": turn}))
    said = [message.text for message in messages if message.role == "user"]
    return f"{request.instructions} {' + '.join(said)}: {', '.join(_results(messages))}"


def _pass_on(request: Any, messages: list[Message]) -> Any:
    turn = sum(message.role == "assistant" for message in messages) + 1
    asked[f"{request.model}:{turn}"] += 1
    if turn == 2:
        return calls(("handoff_to_dealer", {}))
    return calls(("draw", {"number": turn}))


limits = Limits(max_turns=40)
dealer = Agent("dealer", instructions="Deal.", model="deal:a", tools=[draw], limits=limits)
app = App(
    agents=[dealer, Agent("first", model="pass:a", tools=[draw], handoffs=[dealer], limits=limits)],
    providers=[ScriptedModel(_script, name="deal"), ScriptedModel(_pass_on, name="pass")],
)
PRICES: dict[str, Any] = {model: {"input_usd": 1, "output_usd": 1} for model in ("deal:a", "deal:b", "pass:a")}
