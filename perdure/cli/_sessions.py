"""Which session to talk in: a new one, checked as far as that goes without the server, or an open one."""

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import click

from perdure.cli._context import Project
from perdure.cli._input import agent_input, parse_context, parse_limits, parse_time, read_input
from perdure.contracts.run import RunStatus
from perdure.contracts.steering import Session
from perdure.errors import InvalidInputError, UnknownAgentError, suggest

if TYPE_CHECKING:
    from perdure.client import PerdureClient


@dataclass(frozen=True, kw_only=True)
class OpenSession:
    """One that is to be come back to."""

    id: str

    async def status(self, client: "PerdureClient") -> RunStatus:
        """Return how it stands.

        Raises:
            InvalidInputError: It is no session. Not retryable.
            RunNotFoundError: There is no such run. Not retryable.
        """
        info = (await client.show(self.id, depth=0)).info
        if info.closed_at is not None:
            raise InvalidInputError(f"The session {self.id!r} is over: `perdure transcript {self.id}` prints it.")
        status = RunStatus.model_validate(await client.query(self.id, "perdure.status"))
        if not status.is_session:
            raise InvalidInputError(f"{self.id!r} is no session: `perdure send {self.id} …` reaches it.")
        return status


@dataclass(frozen=True, kw_only=True)
class NewSession:
    """One that begins with the first message."""

    agent: str
    text: str | None
    options: dict[str, Any]

    async def begin(self, client: "PerdureClient", text: str) -> str:
        """Start it, and return its id."""
        started = await client.start_agent(self.agent, agent_input(text), **self.options)
        return started.workflow_id


def prepare_session(
    project: Project,
    *,
    name: str | None,
    attach: str | None,
    text: str | None,
    idle_timeout: str | None,
    workflow_id: str | None,
    limits: tuple[str, ...],
    context: tuple[str, ...],
    tenant: str,
    priority: int | None,
) -> OpenSession | NewSession:
    """Return the session to talk in.

    Raises:
        UnknownAgentError, InvalidInputError: Not retryable.
    """
    if (name is None) == (attach is None):
        raise click.UsageError("Give an agent to talk with, or --attach ID, and not both.")
    if attach is not None:
        others = {"-i": text, "--idle-timeout": idle_timeout, "--id": workflow_id, "--limit": limits}
        others |= {"--context": context, "--tenant": tenant, "--priority": priority}
        given = [option for option, value in others.items() if value]
        if given:
            raise click.UsageError(f"{given[0]} is for a new session; --attach comes back to one as it is.")
        return OpenSession(id=attach)
    assert name is not None
    if project.app is not None and name not in project.app.agents:
        raise UnknownAgentError(f"There is no agent {name!r}.{suggest(name, project.app.agents)}")
    wait = parse_time(idle_timeout, "--idle-timeout") or timedelta(days=1)
    options: dict[str, Any] = {
        "id": workflow_id,
        "limits": parse_limits(limits),
        "context": parse_context(context),
        "tenant": tenant,
        "priority": priority,
        "session": Session(idle_timeout=wait),
    }
    return NewSession(agent=name, text=None if text is None else read_input(text), options=options)
