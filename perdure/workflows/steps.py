"""`call_tool`: a tool as a step of a workflow, without a model. Workflow side."""

import json
from collections.abc import Mapping
from hashlib import sha256
from typing import Any, TypeVar, overload

from pydantic import JsonValue, TypeAdapter
from temporalio import workflow
from temporalio.exceptions import ActivityError, is_cancelled_exception

from perdure.contracts.calls import RunToolRequest
from perdure.contracts.messages import ToolCallPart, ToolResultPart
from perdure.contracts.spec import ToolSpec
from perdure.errors import ApprovalDenied, ApprovalTimeout, PayloadTooLargeError, ToolError
from perdure.workflows._approvals import Call, permission
from perdure.workflows._calls import load_tool, run_tool
from perdure.workflows._decisions import call_summary
from perdure.workflows._host import current_host
from perdure.workflows._tool_calls import describe_failure
from perdure.workflows._waiting import wait_id

T = TypeVar("T")

_MAX_ARGUMENT_BYTES = 1_500_000
_PAUSED_PATCH = "perdure.paused-steps"
"""Tools that were approved during a pause before there was this ran in it."""


@overload
async def call_tool(name: str, args: Mapping[str, JsonValue], *, output: type[T]) -> T: ...
@overload
async def call_tool(name: str, args: Mapping[str, JsonValue], *, output: None = None) -> str: ...


async def call_tool(name: str, args: Mapping[str, JsonValue], *, output: type[Any] | None = None) -> Any:
    """Run a tool of the app, with its own policy of retries, timeouts and idempotency.

    Args:
        name: The tool.
        args: Its arguments by name.
        output: The type to make of the result, read as JSON; the text of the result when None.

    Raises:
        UnknownToolError: There is no such tool. Not retryable.
        ToolError: It failed, or its outcome is unknown (`attributes["outcome"]`). Not retryable here.
        PayloadTooLargeError: The arguments take more than 1.5 MB. Not retryable.
        ApprovalDenied, ApprovalTimeout: It needs approval, and a person said no, or nothing. Not retryable.
    """
    arguments = json.dumps(dict(args), ensure_ascii=False)
    if len(arguments.encode(errors="replace")) > _MAX_ARGUMENT_BYTES:
        raise PayloadTooLargeError(f"The arguments of {name!r} take more than {_MAX_ARGUMENT_BYTES} bytes.")
    part = ToolCallPart(id="", name=name, arguments=arguments)
    await current_host().pause.passed()
    try:
        tool = await load_tool(name)
        key = _key(name, arguments)
        arguments = await _permitted(tool, arguments)
        pause = current_host().pause
        if pause.is_on and workflow.patched(_PAUSED_PATCH):
            await pause.passed()
        request = RunToolRequest(tool=tool, arguments=arguments, key=key)
        part = part.model_copy(update={"arguments": arguments})
        message = (await run_tool(request, summary=call_summary(part))).message
    except ActivityError as error:
        if is_cancelled_exception(error):
            raise
        raise describe_failure(error, name) from error
    result = message.parts[0]
    assert isinstance(result, ToolResultPart), "the activity answers with a tool's result"
    text = "".join(getattr(each, "text", "") for each in result.content)
    if result.outcome != "ok":
        raise ToolError(text, is_retryable=False, tool=name, outcome=result.outcome)
    return text if output is None else TypeAdapter(output).validate_json(text)


async def _permitted(tool: ToolSpec, arguments: str) -> str:
    """Return the arguments that the tool may be called with, after asking a person where that is due."""
    info, number = workflow.info(), current_host().number(f"approval {tool.name}")
    id = wait_id(info.first_execution_run_id, info.continued_run_id or "", tool.name, str(number), arguments)
    permit = await permission(Call(id=id, tool=tool, arguments=arguments))
    if permit.is_timeout:
        raise ApprovalTimeout(f"Nobody approved the call of {tool.name} in time.", tool=tool.name, wait=id)
    if permit.denial:
        raise ApprovalDenied(f"{tool.name}: {permit.denial}", tool=tool.name)
    return arguments if permit.arguments is None else permit.arguments


def _key(name: str, arguments: str) -> str:
    info = workflow.info()
    number = current_host().number(f"tool {name}")
    parts = (info.namespace, info.workflow_id, info.first_execution_run_id, name, str(number), arguments)
    return sha256("\n".join(parts).encode(errors="replace")).hexdigest()[:32]
