"""An app whose runs share the calls of a slow tool; it writes down who ran, as a service outside would."""

import asyncio
import os
from datetime import timedelta
from pathlib import Path

from perdure import Agent, App, ToolContext, tool
from perdure.testing import ScriptedModel, calls

SECONDS = 1.5


def _note(line: str) -> None:
    with Path(os.environ["SHARED_LOG"]).open("a") as file:
        file.write(f"{line}\n")


@tool(idempotent=True, cache="shared", ttl=timedelta(hours=1))
async def survey(area: str, ctx: ToolContext) -> str:
    """Survey an area."""
    _note(f"begun {os.getpid()} {ctx.idempotency_key}")
    await asyncio.sleep(SECONDS)
    _note(f"done {os.getpid()} {ctx.idempotency_key}")
    return f"{area} is surveyed"


app = App(
    agents=[Agent("surveyor", model="scripted:x", tools=[survey])],
    providers=[ScriptedModel([calls(("survey", {"area": "north"})), "done"])],
)
