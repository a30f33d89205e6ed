"""An app for the tests of tracing: a tool that fails once, one that never ends, a subagent, and marked secrets."""

import asyncio
import os

from opentelemetry import trace

from perdure import Agent, App, Limits, ToolContext, tool


@tool(idempotent=True, max_attempts=3)
async def flaky(ctx: ToolContext) -> str:
    """Fail at the first attempt."""
    if ctx.attempt == 1:
        raise ValueError("not yet")
    with trace.get_tracer("test").start_as_current_span("inside the tool"):
        return os.environ.get("TRACE_TOOL_RESULT", "ok")


@tool
async def charge() -> str:
    """Charge; a worker that is killed meanwhile leaves the outcome unknown."""
    await asyncio.sleep(60)
    return "charged"


@tool(idempotent=True, local=True)
def near(number: int) -> str:
    """Return a number."""
    return f"number {number} " + "x" * 500


@tool(idempotent=True)
async def far(number: int) -> str:
    """Return a number."""
    return f"number {number} " + "x" * 500


helper = Agent("helper", model="openai:fake", instructions="You are the helper.", description="Helps.")
boss = Agent(
    "boss",
    model="openai:fake",
    instructions="You are the boss.",
    tools=[flaky, charge, near, far, helper.as_tool()],
    limits=Limits(max_turns=100),
)
app = App(agents=[boss, helper])
