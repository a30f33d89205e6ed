"""What `run` and `start` share: find what NAME is, check everything, start it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click
from pydantic import JsonValue

from perdure.agents.approvals import check_run_rules
from perdure.cli._context import Project
from perdure.cli._input import (
    agent_input,
    parse_context,
    parse_limits,
    parse_shared_limits,
    read_input,
    workflow_args,
)
from perdure.cli._render import print_json
from perdure.contracts.limits import Limits
from perdure.contracts.messages import ContentPart
from perdure.contracts.waits import ApprovalRule
from perdure.errors import InvalidInputError, SettingsError, UnknownAgentError, suggest

if TYPE_CHECKING:
    from perdure.client import PerdureClient, StartedRun


@dataclass(frozen=True, kw_only=True)
class AgentStart:
    """An agent to start, checked as far as that goes without the server."""

    name: str
    input: str | Sequence[ContentPart]
    id: str | None
    limits: Limits | None
    context: dict[str, JsonValue] | None
    approvals: Sequence[ApprovalRule]
    tenant: str
    priority: int | None

    async def begin(self, client: "PerdureClient") -> "StartedRun":
        """Start it."""
        return await client.start_agent(
            self.name,
            self.input,
            id=self.id,
            limits=self.limits,
            context=self.context,
            tenant=self.tenant,
            priority=self.priority,
            approvals=self.approvals,
        )


@dataclass(frozen=True, kw_only=True)
class WorkflowStart:
    """A workflow of the user's own to start."""

    name: str
    args: Sequence[Any]
    id: str | None
    limits: Limits | None = None
    tenant: str
    priority: int | None

    async def begin(self, client: "PerdureClient") -> "StartedRun":
        """Start it."""
        return await client.start_workflow(
            self.name,
            self.args,
            id=self.id,
            limits=self.limits,
            tenant=self.tenant,
            priority=self.priority,
        )


def print_started(started: "StartedRun", output: str) -> None:
    """Print the workflow id at once: whatever fails after it, whoever started the run must not start it twice."""
    if output == "text":
        click.echo(started.workflow_id)
    else:
        print_json(started, output)


def prepare(
    project: Project,
    *,
    name: str,
    text: str | None,
    workflow_id: str | None,
    limits: Sequence[str],
    context: Sequence[str],
    asked: Sequence[str] = (),
    tenant: str,
    priority: int | None,
) -> AgentStart | WorkflowStart:
    """Return what to start. Without an app, NAME is taken for an agent, and the worker will know.

    Raises:
        UnknownAgentError, InvalidInputError: Not retryable.
    """
    app = project.app
    if app is not None and name in app.workflows:
        if context or asked:
            raise click.UsageError(f"--context and --ask are for agents; {name!r} is a workflow.")
        given = None if text is None else read_input(text)
        args = workflow_args(name, app.workflows[name], given)
        return WorkflowStart(
            name=name,
            args=args,
            id=workflow_id,
            limits=parse_shared_limits(limits),
            tenant=tenant,
            priority=priority,
        )
    if app is not None and name not in app.agents:
        known = [*app.agents, *app.workflows]
        raise UnknownAgentError(f"There is no agent or workflow {name!r}.{suggest(name, known)}")
    if text is None:
        raise click.UsageError("Missing option '-i' / '--input': what should the agent do?")
    return AgentStart(
        name=name,
        input=agent_input(read_input(text)),
        id=workflow_id,
        limits=parse_limits(limits),
        context=parse_context(context),
        approvals=_parse_rules(asked),
        tenant=tenant,
        priority=priority,
    )


def _parse_rules(asked: Sequence[str]) -> list[ApprovalRule]:
    rules = [ApprovalRule(tool=pattern) for pattern in asked]
    try:
        check_run_rules(rules)
    except SettingsError as error:
        raise InvalidInputError(f"--ask: {error.message}") from None
    return rules
