"""Who plays in the how-to pages: what they define, what they only name, and what models say."""

import asyncio
import inspect
import json
from types import ModuleType

from perdure import Agent, App, ask_human_tool, tool
from perdure.contracts.messages import Message
from perdure.errors import ModelCallError
from perdure.providers.base import ModelRequest
from perdure.testing import ScriptedModel, calls

MODEL = "openai:gpt-5-mini"
_PLAN = {"tasks": [{"id": "facts", "agent": "researcher", "input": "tides"}]}
_CALLS = {
    "deploy": ("deploy", {"target": "web"}),
    "nap": ("nap", {"seconds": 60}),
    "ask": ("ask_human", {"question": "Which colour?"}),
    "remember": ("remember", {"key": "home", "text": "Lives in Dover."}),
}


@tool(needs_approval=True)
async def deploy(target: str) -> str:
    """Deploy to a machine."""
    return f"deployed to {target}"


@tool(idempotent=True)
async def nap(seconds: float) -> str:
    """Sleep."""
    await asyncio.sleep(seconds)
    return "rested"


@tool(idempotent=True, local=True)
def search(query: str) -> str:
    """Search."""
    return f"nothing about {query}"


def reply(request: ModelRequest, messages: list[Message]) -> str | Message | Exception:
    """Do what the first word of the input says; a structured output is a plan, or a review."""
    if request.output is not None:
        is_plan = "tasks" in request.output.parameters.get("properties", {})
        return json.dumps(_PLAN if is_plan else {"verdict": "good", "score": 3})
    word = messages[0].text.partition(" ")[0]
    said = sum(each.role == "assistant" for each in messages)
    if word == "fail":
        return ModelCallError("the vendor said no", kind="fatal", status_code=401)
    if word == "walk" and said < 8:
        return calls(("search", {"query": f"turn {said}"}))
    if word in _CALLS and not said:
        return calls(_CALLS[word])
    return "High water is at 15:25."


def app_of(*modules: ModuleType) -> App:
    """Return an app of what these modules define, with the agents that pages only name."""
    found = [each for module in modules for each in vars(module).values()]
    tools = [deploy, nap, search, ask_human_tool()]
    named = [
        Agent("researcher", description="Finds facts.", model=MODEL, tools=tools),
        Agent("expert", description="Knows tides.", model=MODEL),
        Agent("writer", description="Writes.", model=MODEL),
    ]
    agents = {each.name: each for each in found if isinstance(each, Agent)} | {each.name: each for each in named}
    workflows = [
        each for each in found if inspect.isclass(each) and hasattr(each, "__temporal_workflow_definition")
    ]
    vendors = [ScriptedModel(reply, name=name) for name in ("openai", "anthropic", "scripted")]
    return App(agents=list(agents.values()), workflows=workflows, providers=vendors)
