"""Tool calls that several runs share: what makes two the same, and the way to the result. Activity side."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256
from typing import Any

from temporalio.exceptions import ApplicationError

from perdure.activities._sharing import SharedCall, SharedCallFailed, Sharing, asker_name
from perdure.agents.tool import Tool
from perdure.contracts.calls import SharedToolRequest, SharedToolResult
from perdure.contracts.messages import Message, ToolCallPart, repeat_result, tool_message
from perdure.contracts.names import RUN_SHARED_TOOL
from perdure.contracts.spec import ToolSpec
from perdure.contracts.texts import one_line
from perdure.contracts.times import shared_time

TOOL_FAILED = "SharedToolFailed"
"""Type of the failure of a shared execution whose message is for the model."""

_MARGIN = timedelta(seconds=30)
_CRASHES = 10


@dataclass(frozen=True, kw_only=True)
class ToolAsk:
    """A call of a tool with `cache="shared"`.

    Attributes:
        tool: The function of today.
        pinned: The policy that the run was started with.
        call: The model's request.
        arguments: Its arguments, checked.
        tenant: Who the run is for.
        context: The run's context values.
    """

    tool: Tool
    pinned: ToolSpec
    call: ToolCallPart
    arguments: Mapping[str, Any]
    tenant: str
    context: Mapping[str, Any]


def tool_version(tool: Tool) -> str:
    """Return what tells the versions of a tool: name, docstring, schema, policy and the author's `version`."""
    return sha256(tool.spec.to_bytes()).hexdigest()[:16]


async def share_tool_call(sharing: Sharing, ask: ToolAsk) -> tuple[Message, bool] | None:
    """Return the message that answers a call, and whether another call gave it; None where nothing can be shared.

    Raises:
        ApplicationError: It is still being made. Retryable.
    """
    pinned = ask.pinned
    context = dict(ask.context) if ask.tool.sees_context else {}
    version = tool_version(ask.tool)

    def make_request(call_id: str) -> SharedToolRequest:
        return SharedToolRequest(
            tool=pinned,
            version=version,
            arguments=ask.call.arguments,
            key=call_id,
            asker=asker_name(),
            context=context or None,
        )

    timeout, attempts = pinned.timeout + _MARGIN, pinned.max_attempts + _CRASHES
    call = SharedCall(
        name=pinned.name,
        activity=RUN_SHARED_TOOL,
        parts=(ask.tenant, _policy(pinned), version, _sorted(ask.arguments), _sorted(context)),
        ttl=pinned.cache_ttl or timedelta(hours=1),
        result_type=SharedToolResult,
        timeout=timeout,
        total=shared_time(timeout, attempts),
        max_attempts=attempts,
        summary=one_line(f"{pinned.name}({ask.call.arguments})"),
    )
    try:
        result = await sharing.join(call, make_request)
    except SharedCallFailed as error:
        return tool_message(ask.call, _failure(pinned, error), outcome="error"), False
    if result is None:
        return None
    message = repeat_result(tool_message(ask.call, ()), result.message)
    return message, result.asker != asker_name()


def _policy(pinned: ToolSpec) -> str:
    """Return what a result depends on: who had to approve the call makes no difference."""
    return pinned.model_copy(update={"approval": None}).to_bytes().decode()


def _sorted(values: Mapping[str, Any]) -> str:
    return json.dumps(values, sort_keys=True)


def _failure(pinned: ToolSpec, error: SharedCallFailed) -> str:
    """Return what the model is told of a call that failed for whoever made it."""
    cause = error.cause
    if isinstance(cause, ApplicationError) and cause.type == TOOL_FAILED:
        return cause.message
    return f"{pinned.name} could not be completed: {one_line(str(cause))}"
