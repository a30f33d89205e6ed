"""`Agent`: what a user declares. Both sides; it is data, and calls nothing."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from perdure.agents._names import check_name
from perdure.agents._schema import output_spec
from perdure.agents.compaction import Compaction
from perdure.agents.mcp import MCPServer
from perdure.agents.questions import HumanTool
from perdure.agents.tool import Tool, tool
from perdure.contracts.calls import Verdict
from perdure.contracts.limits import Limits, ModelSettings, OnLimit
from perdure.contracts.spec import OutputSpec, ToolSpec
from perdure.errors import DuplicateNameError, InvalidToolError, SettingsError, UnknownModelError

_SUBAGENT_PARAMETERS: dict[str, Any] = {
    "type": "object",
    "properties": {"input": {"type": "string", "description": "What the agent is asked, with all it must know."}},
    "required": ["input"],
    "additionalProperties": False,
}

Instructions = str | Callable[[Mapping[str, Any]], str | Awaitable[str]]
"""Text, or a function of the run's context values; it runs once, in an activity, when a run starts."""


@dataclass(frozen=True, eq=False)
class Subagent:
    """An agent as a tool of another: a call is a run of its own, and returns its result. See `Agent.as_tool`."""

    agent: "Agent"
    name: str
    description: str

    def __post_init__(self) -> None:
        """Check the name."""
        check_name("Tool", self.name)

    @property
    def spec(self) -> ToolSpec:
        """What a run records of it."""
        return ToolSpec(
            name=self.name, description=self.description, parameters=_SUBAGENT_PARAMETERS, agent=self.agent.name
        )


@dataclass(frozen=True, eq=False)
class Agent:
    """A model with instructions and tools, under a name that runs are started by.

    Raises:
        InvalidNameError, DuplicateNameError, InvalidToolError, UnknownModelError: A mistake in the
            declaration. Not retryable.
    """

    name: str
    description: str = field(default="", kw_only=True)
    """What it is good for, in a sentence: for people, for other agents and for selection."""
    instructions: Instructions = field(default="", kw_only=True, repr=False)
    model: str | Sequence[str] = field(kw_only=True)
    """`provider:model`, or several: the first is asked, the rest are fallbacks."""
    tools: Sequence[Tool | Subagent | HumanTool | Callable[..., Any]] = field(default=(), kw_only=True)
    mcp_servers: Sequence[MCPServer | str] = field(default=(), kw_only=True)
    """MCP servers whose tools it gets, by name where the App or `[tool.perdure.mcp]` has them."""
    output: Any = field(default=str, kw_only=True)
    """`str`, or any type that pydantic knows."""
    limits: Limits = field(default_factory=Limits, kw_only=True)
    settings: ModelSettings = field(default_factory=ModelSettings, kw_only=True)
    tags: Sequence[str] = field(default=(), kw_only=True)
    capabilities: Sequence[str] = field(default=(), kw_only=True)
    handoffs: Sequence["Agent | str"] = field(default=(), kw_only=True)
    verify: "Agent | Callable[..., Any] | None" = field(default=None, kw_only=True)
    """Judges answers: an agent with `output=Verdict`, or a function of the output that returns whether it will do,
    a reason why not, or a `Verdict`. A rejected answer goes back to the model, with the reason."""
    on_limit: OnLimit = field(default="finish", kw_only=True)
    compaction: Compaction = field(default_factory=Compaction, kw_only=True)
    """How room is made when the conversation nears the model's context window."""

    def __post_init__(self) -> None:
        """Check the declaration, and make tools of plain functions."""
        check_name("Agent", self.name)
        tools = tuple(
            each if isinstance(each, Tool | Subagent | HumanTool) else _as_tool(self.name, each)
            for each in self.tools
        )
        object.__setattr__(self, "tools", tools)
        check_unique(f"agent {self.name!r}", "tool", [each.name for each in tools])
        check_unique(f"agent {self.name!r}", "MCP server", self.mcp_names)
        if not self.models:
            raise UnknownModelError(f"Agent {self.name!r} has no model; give one, as in 'openai:gpt-5-mini'.")
        for model in self.models:
            check_model(self.name, model)
        if self.compaction.model is not None:
            check_model(self.name, self.compaction.model)
        _check_cache(self.name, self.settings)
        object.__setattr__(self, "_output_spec", output_spec(self.output))
        if isinstance(self.verify, Agent) and self.verify.output is not Verdict:
            raise InvalidToolError(
                f"Agent {self.name!r}: its verifier {self.verify.name!r} must give a verdict: output=Verdict."
            )

    @property
    def models(self) -> tuple[str, ...]:
        """The model and its fallbacks."""
        return (self.model,) if isinstance(self.model, str) else tuple(self.model)

    @property
    def mcp_names(self) -> tuple[str, ...]:
        """The names of its MCP servers."""
        return tuple(each if isinstance(each, str) else each.name for each in self.mcp_servers)

    @property
    def output_spec(self) -> OutputSpec | None:
        """The schema of a structured output; None for text."""
        spec: OutputSpec | None = self.__dict__["_output_spec"]
        return spec

    @property
    def tool_specs(self) -> tuple[ToolSpec, ...]:
        """What a run records of the tools."""
        return tuple(each.spec for each in self.tools if isinstance(each, Tool | Subagent | HumanTool))

    @property
    def known_agents(self) -> "tuple[Agent, ...]":
        """The agents that it can call or hand over to, as far as they were given as agents."""
        subagents = [each.agent for each in self.tools if isinstance(each, Subagent)]
        others = (*self.handoffs, self.verify)
        return (*subagents, *(each for each in others if isinstance(each, Agent)))

    def as_tool(self, *, name: str | None = None, description: str | None = None) -> Subagent:
        """Return this agent as a tool of another.

        A call is a child run, with a history of its own; the caller gets its output.

        Args:
            name: What the model calls it; the agent's name by default.
            description: What the model is told; the agent's description by default.

        Raises:
            InvalidNameError: The name can't be used. Not retryable.
        """
        return Subagent(self, name or self.name, self.description if description is None else description)

    @property
    def own_tools(self) -> tuple[Tool, ...]:
        """The tools, as tools."""
        return tuple(each for each in self.tools if isinstance(each, Tool))


def check_unique(where: str, what: str, names: Sequence[str]) -> None:
    """Raise DuplicateNameError if a name comes twice."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise DuplicateNameError(f"{where} has two {what}s named {name!r}: rename one.")
        seen.add(name)


def _as_tool(agent: str, function: Any) -> Tool:
    if not callable(function):
        raise InvalidToolError(f"Agent {agent!r}: {function!r} is no tool; give functions or @tool's.")
    return tool(function)


def check_model(agent: str, model: str) -> None:
    """Raise UnknownModelError unless the name of a model names its provider."""
    prefix, colon, name = model.partition(":")
    if not (prefix and colon and name):
        raise UnknownModelError(
            f"Agent {agent!r}: model {model!r} has no provider; write 'provider:model', as in 'openai:gpt-5-mini'."
        )


def _check_cache(agent: str, settings: ModelSettings) -> None:
    if settings.cache is not None and (settings.cache != "shared" or settings.temperature != 0):
        raise SettingsError(
            f"Agent {agent!r}: model calls can be cached with ModelSettings(cache='shared', temperature=0) only: "
            "at another temperature a reply stands for no other, and a run never asks the same twice."
        )
