"""perdure: durable AI agents on Temporal.

Importing it imports nothing else; each name is loaded when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from perdure.agents.agent import Agent
    from perdure.agents.approvals import ApprovalCall
    from perdure.agents.compaction import Compaction
    from perdure.agents.context import ToolContext
    from perdure.agents.mcp import MCPServer
    from perdure.agents.memory import memory_tools
    from perdure.agents.questions import ask_human_tool
    from perdure.agents.tool import Tool, tool
    from perdure.app import App
    from perdure.contracts.calls import Verdict
    from perdure.contracts.limits import Limits, ModelSettings
    from perdure.contracts.waits import ApprovalRule
    from perdure.errors import ToolRetry

_HOMES = {
    "Agent": "perdure.agents.agent",
    "App": "perdure.app",
    "ApprovalCall": "perdure.agents.approvals",
    "ApprovalRule": "perdure.contracts.waits",
    "Compaction": "perdure.agents.compaction",
    "Limits": "perdure.contracts.limits",
    "MCPServer": "perdure.agents.mcp",
    "ModelSettings": "perdure.contracts.limits",
    "Verdict": "perdure.contracts.calls",
    "Tool": "perdure.agents.tool",
    "ToolContext": "perdure.agents.context",
    "ToolRetry": "perdure.errors",
    "ask_human_tool": "perdure.agents.questions",
    "memory_tools": "perdure.agents.memory",
    "tool": "perdure.agents.tool",
}

__all__ = [
    "Agent",
    "App",
    "ApprovalCall",
    "ApprovalRule",
    "Compaction",
    "Limits",
    "MCPServer",
    "ModelSettings",
    "Tool",
    "ToolContext",
    "ToolRetry",
    "Verdict",
    "ask_human_tool",
    "memory_tools",
    "tool",
]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Load a public name from its home."""
    if name not in _HOMES:
        raise AttributeError(f"module 'perdure' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    """List the public names."""
    return sorted([*globals(), *__all__])
