"""Agents that wait for people. What a model does is said by the first message: a JSON list of its turns."""

import json
import os
from datetime import timedelta
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from perdure import Agent, App, ApprovalCall, ApprovalRule, Limits, ask_human_tool, tool
from perdure.contracts.messages import Message, ReasoningPart, TextPart
from perdure.testing import ScriptedModel, calls
from tests.support.approval_workflows import WORKFLOWS


class Colour(BaseModel):
    name: str
    shade: int


def effect(line: str) -> None:
    """Note that something happened, where a test looks for it."""
    if path := os.environ.get("EFFECTS"):
        with Path(path).open("a") as file:
            file.write(line + "\n")


@tool(needs_approval=True)
async def deploy(target: str, count: int = 1) -> str:
    """Deploy."""
    effect(f"deploy {target} {count}")
    return f"deployed {target} x {count}"


@tool(
    needs_approval=lambda call: f"{call.arguments['amount']} is much" if call.arguments["amount"] > 100 else False
)
async def pay(amount: int) -> str:
    """Pay."""
    return f"paid {amount}"


def by_target(call: ApprovalCall) -> Any:
    """Answer in every way that a policy may."""
    target = call.arguments["target"]
    if target == "broken":
        raise KeyError("of the user's")
    if target == "nobody":
        return ApprovalRule(decision="deny")
    return ApprovalRule(group="ops", deadline=timedelta(days=1)) if target == "ops" else False


@tool(needs_approval=by_target)
def reach(target: str) -> str:
    """Reach."""
    return f"reached {target}"


@tool(idempotent=True)
async def look(number: int) -> str:
    """Look; it needs nobody."""
    return f"saw {number}"


@tool(idempotent=True, local=True, read_only=True)
def peek(number: int) -> str:
    """Peek."""
    return f"peeked {number}"


@tool(idempotent=True, local=True)
def shell_run(line: str) -> str:
    """Run a line."""
    return f"ran {line}"


def script(request: Any, messages: list[Message]) -> Any:
    """Say turn after turn what the first message has in its list; in the end, what the tools answered last."""
    turns: list[Any] = json.loads(messages[0].text)
    turn = sum(message.role == "assistant" for message in messages)
    if turn >= len(turns):
        last = [each for each in messages if each.role == "tool"][-len(turns[-1]) :] if turns else []
        texts = ["".join(part.text for part in m.parts[0].content if isinstance(part, TextPart)) for m in last]  # pyright: ignore
        return " | ".join(texts) or "nothing"
    made = calls(*[(name, arguments) for name, arguments in turns[turn]])
    said = (TextPart(text=f"I want to, in turn {turn}."),) if turn == 0 else (ReasoningPart(text="I think so."),)
    return made.model_copy(update={"parts": (*said, *made.parts)})


def turns(*each: list[tuple[str, dict[str, Any]]]) -> str:
    """Return the input of an agent whose model makes these calls, turn by turn."""
    return json.dumps(each)


TOOLS = [deploy, pay, reach, look, peek, shell_run]


def make_app(**options: Any) -> App:
    """Return the app, with these options."""
    helper = Agent("helper", description="Helps.", model="scripted:x", tools=TOOLS)
    return App(
        agents=[
            Agent(
                "doer",
                model="scripted:x",
                tools=[*TOOLS, ask_human_tool(timeout=timedelta(days=7), group="desk"), helper.as_tool()],
                limits=Limits(max_turns=500, max_consecutive_errors=100),
            ),
            helper,
            Agent("painter", model="scripted:x", tools=[ask_human_tool(name="ask_colour", output=Colour)]),
        ],
        providers=[ScriptedModel(script)],
        workflows=WORKFLOWS,
        **options,
    )


app = make_app()
