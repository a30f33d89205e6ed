"""Policies of tools, and what a workflow needs to be found by what it waits for. Activity side."""

import asyncio
import inspect
import json
from collections.abc import Awaitable, Callable
from typing import Any, cast

from temporalio import activity

from perdure.agents.approvals import ApprovalCall, Policy, check_rule
from perdure.agents.registry import Registry
from perdure.contracts.names import CHECK_APPROVAL, OPEN_WAIT
from perdure.contracts.waits import ApprovalAdvice, ApprovalRule, CheckApprovalRequest, OpenWaitResult

_REASON_CHARS = 1000


class ApprovalActivities:
    """Asks users' functions whether a call needs approval. Where that is not clear, a person is asked."""

    def __init__(
        self,
        *,
        registry: Registry,
        redact: Callable[[str], str],
        search_attributes: Callable[[], Awaitable[frozenset[str]]],
    ) -> None:
        """Work with these; `redact` takes the secrets out of a text."""
        self._registry = registry
        self._redact = redact
        self._search_attributes = search_attributes

    @activity.defn(name=CHECK_APPROVAL)
    async def check_approval(self, request: CheckApprovalRequest) -> ApprovalAdvice:
        """Return what the policy of a tool says of one call, as the worker has it today."""
        tool = self._registry.tools.get(request.tool)
        if tool is None or tool.policy is None:
            return ApprovalAdvice(reason="its policy is no longer there")
        try:
            arguments: Any = json.loads(request.arguments or "{}")
        except (ValueError, RecursionError):
            arguments = None
        if not isinstance(arguments, dict):
            # The tool refuses them, and the model is told how; nobody needs to look at that.
            return ApprovalAdvice(decision="allow")
        call = ApprovalCall(
            tool=request.tool,
            arguments=cast("dict[str, Any]", arguments),
            agent=request.agent,
            workflow_id=activity.info().workflow_id or "",
            context=request.context or {},
        )
        try:
            return _advice(await _ask(tool.policy, call))
        except Exception as error:  # a user's function may raise anything
            reason = self._redact(f"{type(error).__name__}: {error}")
            return ApprovalAdvice(reason=f"its policy failed: {reason}"[:_REASON_CHARS])

    @activity.defn(name=OPEN_WAIT)
    async def open_wait(self) -> OpenWaitResult:
        """Return what a workflow of the user's own must know to show what it waits for."""
        return OpenWaitResult(search_attributes=tuple(sorted(await self._search_attributes())))


async def _ask(policy: Policy, call: ApprovalCall) -> Any:
    if inspect.iscoroutinefunction(policy):
        return await policy(call)
    value = await asyncio.to_thread(policy, call)
    return await value if inspect.isawaitable(value) else value


def _advice(value: Any) -> ApprovalAdvice:
    if isinstance(value, bool):
        return ApprovalAdvice(decision="ask" if value else "allow")
    if value is None:
        return ApprovalAdvice(decision="allow")
    if isinstance(value, str):
        return ApprovalAdvice(decision="ask" if value else "allow", reason=value[:_REASON_CHARS])
    if isinstance(value, ApprovalRule) and value.decision in ("ask", "allow", "deny"):
        check_rule(value)
        return ApprovalAdvice(decision=value.decision, rule=value if value.decision == "ask" else None)
    raise TypeError(f"it returned {value!r}: return whether, or why, or an ApprovalRule")
