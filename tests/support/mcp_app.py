"""An agent with MCP servers, whose model does what its input says: a JSON array of calls, `[tool, arguments]`."""

import json
import os
import sys
from pathlib import Path
from typing import Any

from perdure import Agent, App, MCPServer, tool
from perdure.contracts.messages import Message, ToolResultPart
from perdure.testing import ScriptedModel
from perdure.testing.scripted import calls

ROOT = Path(__file__).parents[2]
HOSTILE = str(ROOT / "tests" / "support" / "mcp_hostile.py")


def _work(_: Any, messages: list[Message]) -> Message | str:
    wanted = json.loads(messages[0].text)
    done = sum(message.role == "assistant" for message in messages)
    if done < len(wanted):
        return calls(*(tuple(each) for each in wanted[done]))
    results = [part for message in messages for part in message.parts if isinstance(part, ToolResultPart)]
    told = ["".join(getattr(each, "text", "") for each in part.content) for part in results]
    return json.dumps([[part.outcome, text] for part, text in zip(results, told, strict=True)])


@tool(needs_approval=True, idempotent=True)
def pause() -> str:
    """Wait for a person."""
    return "went on"


def make_app() -> App:
    peer = MCPServer.stdio(
        "peer",
        sys.executable,
        args=["-m", "tests.support.mcp_server"],
        cwd=str(ROOT),
        env={"MCP_TEST_STATE": os.environ.get("MCP_TEST_STATE", "")},
    )
    counter = MCPServer.stdio("counter", sys.executable, args=[HOSTILE, "counting"], stateful=True, trusted=True)
    return App(
        agents=[
            Agent("doer", model="scripted:x", mcp_servers=["peer"]),
            Agent("counter", model="scripted:x", mcp_servers=[counter], tools=[pause]),
        ],
        mcp_servers=[peer],
        providers=[ScriptedModel(_work)],
    )


app = make_app()
