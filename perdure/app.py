"""`App`: a user's bundle of agents, tools, workflows and providers. Wiring data; it starts nothing."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

from temporalio import workflow

from perdure.agents.agent import Agent, check_unique
from perdure.agents.approvals import Rules, read_rules
from perdure.agents.mcp import MCPServer
from perdure.agents.registry import Registry
from perdure.agents.tool import Tool
from perdure.contracts.names import AGENT_WORKFLOW, MAP_NODE, MAP_WORKFLOW, PLAN_WORKFLOW, SCOREBOARD_WORKFLOW
from perdure.errors import DuplicateNameError, UserError

_RESERVED = (AGENT_WORKFLOW, MAP_NODE, MAP_WORKFLOW, PLAN_WORKFLOW, SCOREBOARD_WORKFLOW)

Lifespan = Callable[["App"], AbstractAsyncContextManager[Mapping[str, Any] | None]]
"""Opened once on each worker; the mapping that it yields is `ToolContext.resources`."""


class App:
    """What a worker runs and a client starts.

    Args:
        agents: Their names are what `perdure start NAME` takes.
        tools: Tools of no agent.
        verifiers: Functions of no agent that judge results of a plan's tasks: see `Task.verify`.
        workflows: The user's own `@workflow.defn` classes.
        providers: Model back ends of the user's own (`perdure.providers.base.Provider`).
        lifespan: Opens the resources of a worker: pools, clients.
        approvals: Who must approve which tool calls: rules, of which the first that matches a tool holds, and
            `"strict"`, which asks for every tool that isn't `read_only`. Those of `[tool.perdure]` come first.
        mcp_servers: Servers whose tools those agents get that name them; `[tool.perdure.mcp.NAME]` goes over one.

    Raises:
        DuplicateNameError: Two things of one name. Not retryable.
        UserError: A class in `workflows` is none. Not retryable.
        SettingsError: A rule of `approvals` makes no sense. Not retryable.
    """

    def __init__(
        self,
        *,
        agents: Sequence[Agent] = (),
        tools: Sequence[Tool] = (),
        verifiers: Sequence[Callable[..., Any]] = (),
        workflows: Sequence[type] = (),
        providers: Sequence[Any] = (),
        lifespan: Lifespan | None = None,
        approvals: Rules = (),
        mcp_servers: Sequence[MCPServer] = (),
    ) -> None:
        """Check the names of everything."""
        self.registry = Registry(agents, tools, verifiers, mcp_servers)
        self.workflows: dict[str, type] = _by_name(workflows)
        self.providers = tuple(providers)
        self.lifespan = lifespan
        self.approvals = read_rules(approvals)
        for name in self.workflows:
            if name in self.registry.agents:
                raise DuplicateNameError(
                    f"{name!r} is both an agent and a workflow: rename one; `perdure start` takes either."
                )

    @property
    def agents(self) -> dict[str, Agent]:
        """The agents by name."""
        return self.registry.agents


def _by_name(workflows: Sequence[type]) -> dict[str, type]:
    named = [(_checked_name(each), each) for each in workflows]
    check_unique("The app", "workflow", [*_RESERVED, *(name for name, _ in named)])
    return dict(named)


def workflow_name(cls: type) -> str | None:
    """Return the name of a workflow class; None where it is none, or a dynamic one."""
    definition = workflow._Definition.from_class(cls)  # pyright: ignore[reportPrivateUsage] - no public way
    return None if definition is None else definition.name


def _checked_name(cls: type) -> str:
    name = workflow_name(cls)
    if name is None:
        raise UserError(f"{cls!r} is no workflow: decorate the class with @workflow.defn.")
    return name
