"""An app for the crash tests: its tools write down that they ran, as a service outside would."""

import asyncio
import os
from datetime import timedelta
from pathlib import Path

from perdure import Agent, App, Limits, ModelSettings, ToolContext, tool


def _note(kind: str, key: str) -> None:
    log = Path(os.environ["CRASH_LOG"])
    with log.open("a") as file:
        file.write(f"{kind} {key}\n")


@tool(idempotent=True)
async def record(number: int, ctx: ToolContext) -> str:
    """Write a number down."""
    _note("record", ctx.idempotency_key)
    await asyncio.sleep(0.2)
    return f"recorded {number}"


@tool
async def charge(amount: int, ctx: ToolContext) -> str:
    """Charge an amount; twice would be a disaster."""
    _note("charge", ctx.idempotency_key)
    await asyncio.sleep(60)  # the worker is killed long before
    return f"charged {amount}"


@tool(idempotent=True, local=True)
def double(number: int) -> int:
    """Double a number."""
    return 2 * number


agent = Agent(
    "crash",
    model="openai:fake",
    instructions="Work.",
    tools=[record, charge, double],
    limits=Limits(max_turns=100),
    settings=ModelSettings(stall_timeout=timedelta(seconds=20)),
)
app = App(agents=[agent])
