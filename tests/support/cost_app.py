"""Agents whose every call takes 100 tokens in and 10 out: 0.2 dollars of a cheap model, 2 of a dear one."""

from dataclasses import replace
from typing import Any

from perdure import Agent, App, Limits, tool
from perdure.contracts.messages import Message
from perdure.contracts.usage import Usage
from perdure.errors import ModelCallError
from perdure.providers.base import ModelReply, ModelRequest, TextSink
from perdure.testing import ScriptedModel, calls
from tests.support.cost_workflows import Desk, Office

CHEAP = {"input_usd": 1000, "output_usd": 10_000}
DEAR = {"input_usd": 10_000, "output_usd": 100_000}
PRICES = {"cheap:x": CHEAP, "shaky:x": CHEAP, "broken:x": CHEAP, "dear:x": DEAR}


class Till(ScriptedModel):
    """Every call takes the same."""

    async def call(self, request: ModelRequest, on_text: TextSink) -> ModelReply:
        reply = await super().call(request, on_text)
        return replace(reply, usage=Usage(input_tokens=100, output_tokens=10))


@tool(idempotent=True)
def look() -> str:
    """Look."""
    return "seen"


def _cheap(request: ModelRequest, messages: list[Message]) -> Any:
    names = [each.name for each in request.tools]
    asked = any(message.role == "assistant" for message in messages)
    if asked or not names:
        return "done"
    return calls((names[0], {"input": "go"} if names[0] == "plain" else {}))


def _shaky(request: ModelRequest, messages: list[Message]) -> Any:
    asked = any(message.role == "assistant" for message in messages)
    return ModelCallError("no more", kind="fatal") if asked else calls(("look", {}))


def make_app() -> App:
    plain = Agent("plain", model="cheap:x")
    return App(
        agents=[
            plain,
            Agent("falls", model=["broken:x", "dear:x"]),
            Agent("shaky", model=["shaky:x", "dear:x"], tools=[look]),
            Agent("waits", model="shaky:x", tools=[look], limits=Limits(max_turns=1), on_limit="ask"),
            Agent("front", model="cheap:x", handoffs=["back"]),
            Agent("back", model="dear:x"),
            Agent("boss", model="cheap:x", tools=[plain.as_tool()]),
            Agent("gratis", model="gratis:x"),
            Agent("cut", model="cheap:x", tools=[look], limits=Limits(max_turns=1), on_limit="fail"),
        ],
        workflows=[Desk, Office],
        providers=[
            Till(_cheap, name="cheap"),
            Till(_shaky, name="shaky"),
            Till(["dear"], name="dear"),
            Till(["free"], name="gratis"),
            Till(lambda request, messages: ModelCallError("never", kind="fatal"), name="broken"),
        ],
    )
