"""The agents whose histories are stored. Changing them must not break a replay: that is the point."""

import os
import re
from datetime import timedelta
from typing import Any

from pydantic import BaseModel

from perdure import Agent, App, Compaction, Limits, tool
from perdure.contracts.messages import Message
from perdure.testing import ScriptedModel, calls

TIME = timedelta(seconds=60)
TURNS = 30


class Verdict(BaseModel):
    good: bool


@tool(idempotent=True)
async def look(number: int) -> str:
    """Look at a page."""
    return f"page {number} " + "x" * 100


@tool(idempotent=True, local=True)
def count(text: str) -> int:
    """Count letters."""
    return len(text)


@tool
async def fail() -> str:
    """Fail."""
    raise ValueError("as planned")


@tool(idempotent=True, cache="run")
async def glance(number: int) -> str:
    """Glance at a page."""
    return f"page {number}"


def _script(request: Any, messages: list[Message]) -> Any:
    """Say what the first message asks for."""
    if not request.tools and "conversation" in messages[0].text:
        return "pages were read"
    turn = sum(message.role == "assistant" for message in messages)
    if messages[0].text in ("crowded", "forgetful"):  # how far it is, is not to be counted
        read = [
            int(number) for message in messages for number in re.findall(r"page (\d+)", message.model_dump_json())
        ]
        turn = max(read, default=-1) + 1
    scripts: dict[str, list[Any]] = {
        "tools": [calls(("look", {"number": 1}), ("count", {"text": "abc"}), ("fail", {}), ("nope", {})), "done"],
        "verdict": ["no json", '{"good": true}'],
        "limit": [calls(("look", {"number": 1})), calls(("look", {"number": 2})), "what I have"],
        "hopeless": ["no json"],
        "long": [calls(("look", {"number": n}), ("count", {"text": "x"})) for n in range(TURNS)] + ["the end"],
        "saved": [
            calls(("glance", {"number": 1}), ("glance", {"number": 1})),
            calls(("glance", {"number": 1})),
            "so",
        ],
        "crowded": [calls(("look", {"number": n})) for n in range(TURNS)] + ["the end"],
        "forgetful": [calls(("look", {"number": n})) for n in range(TURNS)] + ["the end"],
        "lead": [calls(("plain", {"input": "cancelled"})), calls(("plain", {"input": "cancelled"})), "led"],
        "cancelled": [calls(("look", {"number": 1})), "too late"],
    }
    script = scripts[messages[0].text]
    return script[min(turn, len(script) - 1)]


def make_app(*, delay_seconds: float = 0) -> App:
    tools = [look, count, fail]
    model = ScriptedModel(_script, delay_seconds=delay_seconds)
    long = Limits(max_turns=100)
    prompt = os.environ.get("REPLAY_PROMPT", "Do it.")
    plain = Agent("plain", model="scripted:x", tools=tools, instructions=prompt, limits=long)
    return App(
        agents=[
            plain,
            Agent("lead", model="scripted:x", tools=[plain.as_tool()]),
            Agent("judge", model="scripted:x", output=Verdict, limits=Limits(max_consecutive_errors=2)),
            Agent(
                "crowded",
                model="scripted:x",
                tools=tools,
                limits=long,
                compaction=Compaction(by="summarise", context_window_tokens=1000),
            ),
            Agent(
                "forgetful",
                model="scripted:x",
                tools=tools,
                limits=long,
                compaction=Compaction(by="drop_tool_results", at=0.6, context_window_tokens=5000),
            ),
            Agent("saver", model="scripted:x", tools=[glance]),
            Agent("short", model="scripted:x", tools=tools, limits=Limits(max_turns=2)),
        ],
        providers=[model],
    )


CASES = {
    "tools": ("plain", "tools"),
    "structured": ("judge", "verdict"),
    "limit": ("short", "limit"),
    "failed": ("judge", "hopeless"),
    "continued": ("plain", "long"),
    "cancelled": ("plain", "cancelled"),
    "saved": ("saver", "saved"),
    "queues": ("plain", "tools"),
    "crowded": ("crowded", "crowded"),
    "forgetful": ("forgetful", "forgetful"),
}
"""Case to agent and input."""

MAP_ITEMS = ["verdict", "hopeless", *["verdict"] * 10]
"""Of a map by the agent `judge`, which fails at the second."""
