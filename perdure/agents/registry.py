"""`Registry`: agents and tools by name. Both sides."""

from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Any

from perdure.agents.agent import Agent, check_unique
from perdure.agents.mcp import MCPServer
from perdure.agents.tool import Tool
from perdure.contracts.calls import Verdict
from perdure.errors import DuplicateNameError, UnknownAgentError, UnknownToolError, suggest


class Registry:
    """The agents and tools of an app; names are unique in each.

    Raises:
        DuplicateNameError: Two agents, or two different tools or MCP servers, of one name. Not retryable.
        UnknownAgentError: A handoff to an agent that there isn't. Not retryable.
    """

    def __init__(
        self,
        agents: Iterable[Agent] = (),
        tools: Iterable[Tool] = (),
        verifiers: Iterable[Callable[..., Any]] = (),
        mcp_servers: Iterable[MCPServer] = (),
    ) -> None:
        """Collect the agents, their tools, verifiers and servers, and those of no agent."""
        listed = _with_known(list(agents))
        check_unique("The app", "agent", [agent.name for agent in listed])
        self.agents: dict[str, Agent] = {agent.name: agent for agent in listed}
        self.tools: dict[str, Tool] = {}
        for each in (*(own for agent in listed for own in agent.own_tools), *tools):
            if not self.tools.setdefault(each.name, each).is_same(each):
                raise DuplicateNameError(f"The app has two different tools named {each.name!r}: rename one.")
        self.mcp_servers: dict[str, MCPServer] = {}
        """By name; those of the settings go over them."""
        declared = (each for agent in listed for each in agent.mcp_servers if isinstance(each, MCPServer))
        for server in (*mcp_servers, *declared):
            if self.mcp_servers.setdefault(server.name, server) != server:
                raise DuplicateNameError(
                    f"The app has two different MCP servers named {server.name!r}: rename one."
                )

        for agent in listed:
            for target in agent.handoffs:
                self.agent(target if isinstance(target, str) else target.name)

        self.verifiers: dict[str, Agent | Callable[..., Any]] = _verifiers(listed, verifiers)

    @property
    def longest_ttl(self) -> tuple[str, timedelta] | None:
        """What is shared between runs for the longest, and how long; None when nothing is."""
        found = [(f"The tool {each.name!r}", each.spec.cache_ttl) for each in self.tools.values()]
        found += [
            (f"The agent {each.name!r}", each.settings.cache_ttl)
            for each in self.agents.values()
            if each.settings.cache == "shared"
        ]
        known = [(name, ttl) for name, ttl in found if ttl is not None]
        return max(known, key=lambda each: each[1], default=None)

    @property
    def shares_calls(self) -> bool:
        """Whether calls of a tool or of a model may be shared between runs."""
        tools = any(each.spec.cache == "shared" for each in self.tools.values())
        return tools or any(each.settings.cache == "shared" for each in self.agents.values())

    def agent(self, name: str) -> Agent:
        """Return the agent of that name.

        Raises:
            UnknownAgentError: There is none; suggests the nearest. Not retryable.
        """
        try:
            return self.agents[name]
        except KeyError:
            raise UnknownAgentError(f"There is no agent {name!r}.{suggest(name, self.agents)}") from None

    def verifier(self, name: str) -> "Agent | Callable[..., Any]":
        """Return what judges results under that name.

        Raises:
            UnknownAgentError: There is nothing, or several things; suggests the nearest. Not retryable.
        """
        try:
            return self.verifiers[name]
        except KeyError:
            raise UnknownAgentError(f"There is no verifier {name!r}.{suggest(name, self.verifiers)}") from None

    def tool(self, name: str) -> Tool:
        """Return the tool of that name.

        Raises:
            UnknownToolError: There is none; suggests the nearest. Not retryable.
        """
        try:
            return self.tools[name]
        except KeyError:
            raise UnknownToolError(f"There is no tool {name!r}.{suggest(name, self.tools)}") from None


def _with_known(agents: list[Agent]) -> list[Agent]:
    """Add the agents that those given call or hand over to."""
    for agent in agents:  # grows as it goes
        agents.extend(each for each in agent.known_agents if each not in agents)
    return agents


def _verifiers(
    agents: Iterable[Agent], functions: Iterable[Callable[..., Any]]
) -> dict[str, Agent | Callable[..., Any]]:
    """Return what can judge results, by name: agents that give verdicts, and functions.

    A name that stands for several of them is left out.
    """
    found: dict[str, Agent | Callable[..., Any]] = {}
    several: set[str] = set()
    for agent in agents:
        if agent.output is Verdict:
            found[agent.name] = agent
    for function in (*(agent.verify for agent in agents), *functions):
        name = getattr(function, "__name__", "")
        if function is not None and name and found.setdefault(name, function) is not function:
            several.add(name)
    return {name: each for name, each in found.items() if name not in several and name != "<lambda>"}
