"""Printing the agents of an app."""

from collections.abc import Iterator, Sequence
from typing import Any

from perdure.agents.agent import Agent
from perdure.cli._context import say
from perdure.cli._format import clean, one_line
from perdure.cli._render import console, print_pairs, print_table
from perdure.contracts.limits import DEFAULT_LIMITS
from perdure.contracts.spec import ToolSpec


def describe(agent: Agent) -> dict[str, Any]:
    """Return an agent as JSON values."""
    return {
        "name": agent.name,
        "description": agent.description,
        "instructions": agent.instructions if isinstance(agent.instructions, str) else None,
        "models": agent.models,
        "tools": agent.tool_specs,
        "mcp_servers": agent.mcp_names,
        "output": agent.output_spec,
        "limits": agent.limits.over(DEFAULT_LIMITS),
        "settings": agent.settings,
        "tags": agent.tags,
        "capabilities": agent.capabilities,
        "handoffs": [each if isinstance(each, str) else each.name for each in agent.handoffs],
        "on_limit": agent.on_limit,
    }


def print_agents(agents: Sequence[Agent]) -> None:
    """Print a line for each agent."""
    if not agents:
        say("The app has no agents.")
        return
    rows = [
        (
            agent.name,
            ", ".join(agent.models),
            ", ".join(tool.name for tool in agent.tool_specs) or "-",
            one_line(agent.description),
        )
        for agent in agents
    ]
    print_table(console(), ("AGENT", "MODEL", "TOOLS", "DESCRIPTION"), rows)


def print_agent(agent: Agent) -> None:
    """Print one agent."""
    print_pairs(console(), [(label, value) for label, value in _pairs(agent) if value])


def _pairs(agent: Agent) -> Iterator[tuple[str, str]]:
    told = describe(agent)
    limits = told["limits"].model_dump(mode="json").items()
    yield "agent", agent.name
    yield "description", one_line(agent.description)
    yield "models", ", ".join(agent.models)
    yield "output", agent.output_spec.name if agent.output_spec else "text"
    yield "limits", ", ".join(f"{key}={value}" for key, value in limits)
    yield "on limit", agent.on_limit
    yield "mcp servers", ", ".join(agent.mcp_names)
    yield "handoffs", ", ".join(told["handoffs"])
    yield "tags", ", ".join(agent.tags)
    yield "instructions", clean(told["instructions"] or "made by a function when a run starts")
    for tool in agent.tool_specs:
        yield f"tool {tool.name}", _tool(tool)


def _tool(tool: ToolSpec) -> str:
    names: dict[str, Any] = tool.parameters.get("properties", {})
    policy = [word for word in ("idempotent", "local", "needs_approval") if getattr(tool, word)]
    rules = f" [{', '.join(policy)}]" if policy else ""
    return f"({', '.join(names)}){rules} {one_line(tool.description, 100)}"
