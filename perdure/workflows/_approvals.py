"""Permission for tool calls: rules, the tool's own policy, and the person who is asked. Workflow side."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial

from pydantic import JsonValue
from temporalio import workflow
from temporalio.exceptions import ActivityError, is_cancelled_exception

from perdure.agents.fitting import fitting_faults
from perdure.contracts.messages import Message, ReasoningPart
from perdure.contracts.spec import ToolSpec
from perdure.contracts.waits import ApprovalAdvice, ApprovalRule, CheckApprovalRequest, Wait
from perdure.errors import ApprovalTimeout
from perdure.workflows._calls import check_approval
from perdure.workflows._clock import UNBOUNDED, Clock
from perdure.workflows._host import current_host
from perdure.workflows._waiting import Expired, is_reopened, until, wait_for_person

_ARGUMENT_CHARS = 4000
_REASON_CHARS = 1000


@dataclass(frozen=True)
class Call:
    """A call that may need approval.

    Attributes:
        id: Of its wait.
        tool: As pinned.
        arguments: JSON text, as the model wrote it.
        agent: Whose call it is; empty for a step of a workflow.
        message: The message that asks for it, if there is one.
        call_slot: Where that is, and which call of it this is.
    """

    id: str
    tool: ToolSpec
    arguments: str
    agent: str = ""
    message: Message | None = None
    call_slot: int | None = None
    index: int = 0
    conversation: str = ""
    context: dict[str, JsonValue] | None = None


@dataclass(frozen=True)
class Permission:
    """What became of the question whether a call may be made.

    Attributes:
        denial: Why not, in words for the model; empty where it may.
        arguments: What a person put in place of the arguments.
        is_timeout: Nobody decided in time.
    """

    denial: str = ""
    arguments: str | None = None
    is_timeout: bool = False


GRANTED = Permission()


@dataclass(frozen=True)
class _Terms:
    rule: ApprovalRule
    """Who is asked, and for how long."""
    note: str = ""
    """Why."""


async def permission(
    call: Call,
    *,
    idle: Callable[[], AbstractContextManager[None]] = nullcontext,
    should_suspend: Callable[[], bool] = lambda: False,
    clock: Clock = UNBOUNDED,
) -> Permission:
    """Return whether a call may be made, after asking a person where a rule or a policy says so.

    Args:
        call: The call.
        idle: Entered while it waits for a person.
        should_suspend: Says that the run must continue as new, and can.
        clock: Says when the run's time is over, and the wait with it.

    Raises:
        ApprovalTimeout: Nobody decided in time, and the run is to fail then. Not retryable.
        Suspended: The run is to continue as new first.
    """
    rule = call.tool.approval
    if rule is None:
        return GRANTED
    found = _known_terms(call, rule) if is_reopened(call.id) else await _find_terms(call, rule)
    if isinstance(found, Permission):
        return found
    source = call.tool.mcp
    if source is not None and not source.is_accepted:
        note = f"Nobody has accepted what the MCP server {source.server} says of this tool now."
        found = replace(found, note=note)
    with idle():
        return await _ask(call, found, should_suspend, clock)


def _known_terms(call: Call, rule: ApprovalRule) -> _Terms:
    """Return how a person was asked before the run continued as new."""
    waits = current_host().waits
    if waits.is_settled(call.id):
        return _Terms(rule)  # it is decided, and waits for nothing
    wait = waits.find(call.id)
    known = ApprovalRule(
        group=wait.group, deadline=wait.term, on_deadline=wait.on_deadline, escalate_to=wait.escalate_to
    )
    return _Terms(known, wait.note)


async def _find_terms(call: Call, rule: ApprovalRule) -> _Terms | Permission:
    """Return how a person is to be asked, or what is known without one."""
    if current_host().waits.is_allowed(call.tool.name):
        return GRANTED
    if rule.decision == "deny":
        return Permission(denial=f"Not run: a rule forbids calls of {call.tool.name}.")
    if not call.tool.approval_policy:
        return _Terms(rule)
    advice = await _advice(call)
    if advice.decision == "allow":
        return GRANTED
    if advice.decision == "deny":
        return Permission(denial=f"Not run: its policy forbids this call. {advice.reason}".rstrip())
    return _Terms(advice.rule or rule, advice.reason)


async def _ask(call: Call, terms: _Terms, should_suspend: Callable[[], bool], clock: Clock) -> Permission:
    rule = terms.rule
    wait = _wait(call, rule, terms.note)
    try:
        decided = await wait_for_person(
            wait, partial(fitting_faults, call.tool.parameters), should_suspend=should_suspend, clock=clock
        )
    except Expired as over:
        if over.limit:
            return Permission(denial=f"Not run: nobody approved it before the limit {over.limit} was reached.")
        if rule.on_deadline == "fail":
            raise ApprovalTimeout(
                f"Nobody approved the call of {call.tool.name} in time.", tool=call.tool.name, wait=call.id
            ) from None
        return Permission(denial="Not run: nobody approved it in time.", is_timeout=True)
    if decided.verdict == "deny":
        return Permission(denial=f"Not run: a person denied it. {decided.reason}".rstrip())
    return Permission(arguments=decided.arguments)


def _wait(call: Call, rule: ApprovalRule, note: str) -> Wait:
    return Wait(
        id=call.id,
        kind="approval",
        asked_at=workflow.now(),
        deadline=until(rule.deadline),
        group=rule.group,
        agent=call.agent,
        tool=call.tool.name,
        arguments=call.arguments[:_ARGUMENT_CHARS],
        is_cut=len(call.arguments) > _ARGUMENT_CHARS,
        call_slot=call.call_slot,
        index=call.index,
        conversation=call.conversation,
        reason=_reason(call.message),
        note=note[:_REASON_CHARS],
        on_deadline=rule.on_deadline,
        escalate_to=rule.escalate_to,
        term=rule.deadline,
    )


def _reason(message: Message | None) -> str:
    """Return what the agent said with its call, or thought before it."""
    if message is None:
        return ""
    thoughts = "".join(part.text for part in message.parts if isinstance(part, ReasoningPart))
    return (message.text.strip() or thoughts.strip())[:_REASON_CHARS]


async def _advice(call: Call) -> ApprovalAdvice:
    """Ask the tool's policy; where that fails, a person is asked."""
    request = CheckApprovalRequest(
        tool=call.tool.name, arguments=call.arguments, agent=call.agent, context=call.context
    )
    try:
        return await check_approval(request)
    except ActivityError as error:
        if is_cancelled_exception(error):
            raise
        return ApprovalAdvice(reason="its policy could not be asked")
