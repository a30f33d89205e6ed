"""What a run is started with, whoever starts it: a person, a service or a schedule. Client side."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import JsonValue
from temporalio.client import Client

from perdure.agents.approvals import check_run_rules
from perdure.agents.registry import Registry
from perdure.client._sizes import check_input
from perdure.contracts.attributes import first_attributes
from perdure.contracts.limits import Limits
from perdure.contracts.messages import ContentPart, TextPart
from perdure.contracts.names import AGENT_WORKFLOW
from perdure.contracts.run import RunInput
from perdure.contracts.steering import Session
from perdure.contracts.texts import one_line
from perdure.contracts.waits import ApprovalRule


@dataclass(frozen=True, kw_only=True)
class RunStart:
    """A run to start.

    Attributes:
        workflow: The workflow type.
        args: Its arguments.
        name: What a workflow id is made from.
        summary: For the web UI.
        attributes: Search attributes; empty ones are left out.
        tenant: Who the run is for.
    """

    workflow: str
    args: Sequence[Any]
    name: str
    summary: str
    attributes: Mapping[str, str] = field(default_factory=dict[str, str])
    tenant: str = ""


def agent_start(
    client: Client,
    registry: Registry | None,
    agent: str,
    input: str | Sequence[ContentPart],
    *,
    limits: Limits | None,
    context: Mapping[str, JsonValue] | None,
    tenant: str,
    approvals: Sequence[ApprovalRule] = (),
    session: Session | None = None,
) -> RunStart:
    """Return what an agent's run is started with.

    Raises:
        UnknownAgentError: The registry doesn't have it. Not retryable.
        SettingsError: A rule makes no sense. Not retryable.
        PayloadTooLargeError: The input takes more than 1.5 MB, or 50 MB with external storage. Not retryable.
    """
    check_run_rules(approvals)
    model = "" if registry is None else registry.agent(agent).models[0]
    parts = (TextPart(text=input),) if isinstance(input, str) else tuple(input)
    request = RunInput(
        agent=agent,
        input=parts,
        limits=limits or Limits(),
        context=dict(context) if context else None,
        tenant=tenant,
        approvals=tuple(approvals),
        session=session,
    )
    check_input(len(request.to_bytes()), client)
    text = "".join(part.text for part in parts if isinstance(part, TextPart))
    return RunStart(
        workflow=AGENT_WORKFLOW,
        args=[request],
        name=agent,
        summary=f"{agent}: {one_line(text)}",
        attributes=first_attributes(agent, model, tenant),
        tenant=tenant,
    )
