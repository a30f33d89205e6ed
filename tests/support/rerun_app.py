"""An app whose models and tools fail while they are told to, and count what they are asked."""

import asyncio
from collections import Counter
from typing import Any

from perdure import Agent, App, Limits, ToolContext, tool
from perdure.contracts.messages import Message
from perdure.errors import ModelCallError
from perdure.testing import ScriptedModel, calls
from tests.support.rerun_workflows import Chain, Mapped, MappedAsTree

asked: Counter[str] = Counter()
"""Model calls by what they were about."""
effects: list[tuple[str, str]] = []
"""Tool calls that took effect: what, and the idempotency key."""
failing: set[str] = set()
"""Model calls that fail, and tools that hang."""


def forget() -> None:
    asked.clear()
    effects.clear()
    failing.clear()


async def _act(what: str, context: ToolContext) -> str:
    effects.append((what, context.idempotency_key))
    while what in failing:
        await asyncio.sleep(0.05)
    return f"did {what}"


@tool
async def pay(what: str, ctx: ToolContext) -> str:
    """Not idempotent."""
    return await _act(what, ctx)


@tool(idempotent=True)
async def book(what: str, ctx: ToolContext) -> str:
    """Idempotent."""
    return await _act(what, ctx)


@tool(idempotent=True, cache="run")
async def look(what: str, ctx: ToolContext) -> str:
    """Answered from the run, where it was asked before."""
    return await _act(what, ctx)


def _look(request: Any, messages: list[Message]) -> Any:
    """Look twice at the same."""
    turn = sum(message.role == "assistant" for message in messages)
    asked[f"look:{turn}"] += 1
    if f"look:{turn}" in failing:
        return ModelCallError("no quota", kind="fatal", status_code=429)
    return calls(("look", {"what": "sky"})) if turn < 2 else "seen"


def _step(request: Any, messages: list[Message]) -> Any:
    """Take three turns: two with a tool each, and the answer."""
    text, turn = messages[0].text.strip("."), sum(message.role == "assistant" for message in messages)
    name = f"{text}:{turn}"
    asked[name] += 1
    if name in failing:
        return ModelCallError("no quota", kind="fatal", status_code=429)
    if f"empty {name}" in failing:
        return Message(role="assistant", stop="end")
    if turn == 2:
        return f"<{'long ' * 5000 * text.startswith('long')}{text[-100:]}>"
    return calls((("pay", "book")[turn], {"what": f"{text}{turn}"}))


def _both(request: Any, messages: list[Message]) -> Any:
    turn = sum(message.role == "assistant" for message in messages)
    asked[f"both:{turn}"] += 1
    if turn:
        return "\n".join(getattr(part, "content", [])[0].text for each in messages[2:] for part in each.parts)
    return calls(
        ("pay", {"what": "fast"}),
        ("pay", {"what": "slow"}),
        ("book", {"what": "late"}),
        ("stepper", {"input": "s"}),
    )


stepper = Agent("stepper", model="step:x", tools=[pay, book])
app = App(
    agents=[
        stepper,
        Agent("heavy", model="step:x", tools=[pay, book], instructions="i" * 950_000),
        Agent("looker", model="look:x", tools=[look]),
        Agent("both", model="both:x", tools=[pay, book, stepper.as_tool()]),
        Agent("short", model="step:x", tools=[pay, book], limits=Limits(max_turns=2), on_limit="fail"),
    ],
    workflows=[Chain, Mapped, MappedAsTree],
    providers=[
        ScriptedModel(_step, name="step"),
        ScriptedModel(_both, name="both"),
        ScriptedModel(_look, name="look"),
    ],
)
