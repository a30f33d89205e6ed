"""The activity that runs a tool call. Activity side; a tool's failure is an answer, not an error.

Only two things fail the activity: an exception of an idempotent tool that has attempts left, and cancellation.
"""

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, cast

from pydantic import ValidationError
from pydantic_core import PydanticSerializationError
from temporalio import activity
from temporalio.exceptions import ApplicationError

from perdure.activities._blobs import BlobStore
from perdure.activities._cache import ConversationKey, Slot
from perdure.activities._lookup import Lookup
from perdure.activities._memory import RunMemory
from perdure.activities._outputs import schema_faults
from perdure.activities._progress import Heart, backoff
from perdure.activities._results import encodable, to_content
from perdure.activities._shared_tools import TOOL_FAILED, ToolAsk, share_tool_call, tool_version
from perdure.activities._sharing import Sharing
from perdure.agents.approvals import pin
from perdure.agents.context import ToolContext
from perdure.agents.outcomes import unknown_outcome
from perdure.agents.registry import Registry
from perdure.agents.schema_tool import OutcomeUnknown, SchemaTool
from perdure.agents.tool import Tool, describe_invalid_arguments
from perdure.contracts.calls import (
    CallToolRequest,
    CallToolResult,
    RunToolRequest,
    SharedToolRequest,
    SharedToolResult,
)
from perdure.contracts.messages import (
    ContentPart,
    Message,
    Outcome,
    ToolCallPart,
    ToolResultPart,
    tell_edit,
    tool_message,
)
from perdure.contracts.names import CALL_TOOL, LOAD_TOOL, RUN_SHARED_TOOL, RUN_TOOL
from perdure.contracts.spec import ToolSpec, with_queue
from perdure.contracts.waits import ApprovalRule
from perdure.errors import ToolError, ToolRetry
from perdure.mcp.pool import McpTool, Pool
from perdure.telemetry.notes import note_arguments, note_spec

if TYPE_CHECKING:
    import httpx

_MAX_ERROR_CHARS = 2000
_INLINE_TEXT_BYTES = 1024 * 1024
"""Without external storage a result's text is cut here at the latest."""
_INLINE_BYTES = 1_900_000
"""Of a result in all; Temporal's limit is 2 MiB."""
_STORED_BYTES = 60_000_000
_OTHER_VERSION_DELAY = timedelta(seconds=1)


@dataclass
class ToolHost:
    """What a worker offers to its tools.

    Attributes:
        resources: Filled by the App's lifespan.
        has_storage: Whether results beyond Temporal's limits are kept outside of Event History.
    """

    http: "httpx.AsyncClient"
    blobs: BlobStore
    redact: Callable[[str], str]
    resources: Mapping[str, Any] = field(default_factory=dict[str, Any])
    has_storage: bool = False


class _Refused(Exception):
    """The call can't be made, or failed; the text goes to the model."""

    def __init__(self, text: str, *, outcome: Outcome = "error") -> None:
        super().__init__(text)
        self.outcome: Outcome = outcome


@dataclass(frozen=True)
class _Failure:
    """What came of an attempt that failed."""

    text: str
    is_final: bool = False
    delay: timedelta | None = None
    """What the service asks to wait before the next."""
    outcome: Outcome = "error"
    error: str | None = None
    """The type of what the tool raised: a log line says it, since the text may quote the conversation."""


class ToolActivities:
    """Runs tool calls on behalf of runs."""

    def __init__(
        self,
        *,
        registry: Registry,
        lookup: Lookup,
        host: ToolHost,
        sharing: Sharing,
        approvals: Sequence[ApprovalRule] = (),
        task_queue: str = "",
        mcp: Pool | None = None,
    ) -> None:
        """Work with these; `task_queue` is where calls run, if that is not the workflow's."""
        self._approvals = approvals
        self._task_queue = task_queue
        self._mcp = mcp or Pool()
        self._sharing = sharing
        self._registry = registry
        self._lookup = lookup
        self._host = host

    @activity.defn(name=CALL_TOOL)
    async def call_tool(self, request: CallToolRequest) -> CallToolResult:
        """Run one tool call, and return the message that answers it.

        Raises:
            ToolError: An idempotent tool raised, and has attempts left. Retryable.
            ConversationUnavailableError: Retryable, the tool was not run.
        """
        info = activity.info()
        key = ConversationKey(
            info.workflow_id or "", info.workflow_run_id or "", request.conversation, request.epoch
        )
        spec = await self._lookup.spec(request.spec, key.workflow_id, key.run_id)
        note_spec(spec)
        call = await self._find_call(key, request)
        pinned = spec.tool(request.name)
        served: McpTool | None = None
        if pinned is None:
            message, is_saved = tool_message(call, f"There is no tool {request.name!r}.", outcome="error"), False
        else:
            context = self._context(request.name, request.key, spec.context or {}, request.tenant)
            if pinned.mcp is not None:
                served = self._mcp.tool(pinned, request.session)
            message, is_saved = await self._answer_or_share(pinned, call, context, request.tenant, served)
        if request.is_edited:
            message = tell_edit(message, call.arguments)
        self._lookup.cache.put(key, {request.slot: Slot(message)})
        return CallToolResult(
            slot=request.slot,
            message=message,
            epoch=request.epoch,
            conversation=request.conversation,
            is_saved=is_saved,
            session=None if served is None else served.session,
        )

    @activity.defn(name=LOAD_TOOL)
    async def load_tool(self, name: str) -> ToolSpec:
        """Return the policy of a tool.

        Raises:
            UnknownToolError: Not retryable.
        """
        spec = None if name in self._registry.tools else await self._mcp.find(name)
        return with_queue(pin(spec or self._registry.tool(name).spec, self._approvals), self._task_queue)

    @activity.defn(name=RUN_TOOL)
    async def run_tool(self, request: RunToolRequest) -> CallToolResult:
        """Run a tool that a workflow asks for without a model, as `call_tool` does.

        Raises:
            ToolError: An idempotent tool raised, and has attempts left. Retryable.
        """
        call = ToolCallPart(id="", name=request.tool.name, arguments=request.arguments)
        context = self._context(request.tool.name, request.key, {})
        message, is_saved = await self._answer_or_share(request.tool, call, context, "")
        return CallToolResult(slot=0, message=message, is_saved=is_saved)

    @activity.defn(name=RUN_SHARED_TOOL)
    async def run_shared_tool(self, request: SharedToolRequest) -> SharedToolResult:
        """Run a tool call for every run that makes it; a standalone activity.

        Raises:
            ToolError: The tool raised, and has attempts left, or this worker has another version of it. Retryable.
            ApplicationError: The call failed for good; its message is for the model. Not retryable.
        """
        tool = self._registry.tools.get(request.tool.name)
        if tool is None or tool_version(tool) != request.version:
            raise ToolError(
                f"This worker has another version of {request.tool.name!r}: the call is left to others.",
                is_retryable=True,
                next_retry_delay=_OTHER_VERSION_DELAY,
                tool=request.tool.name,
            )
        call = ToolCallPart(id="", name=request.tool.name, arguments=request.arguments)
        context = self._context(request.tool.name, request.key, request.context or {})
        message = await self._answer(request.tool, call, context)
        result = message.parts[0]
        assert isinstance(result, ToolResultPart), "a tool's message is a result"
        if result.outcome != "ok":
            text = "".join(getattr(part, "text", "") for part in result.content)
            raise ApplicationError(text, type=TOOL_FAILED, non_retryable=True)
        return SharedToolResult(message=message, asker=request.asker)

    async def _answer_or_share(
        self, pinned: ToolSpec, call: ToolCallPart, context: ToolContext, tenant: str, tool: Tool | None = None
    ) -> tuple[Message, bool]:
        """Return the message that answers a call, and whether another run's call gave it."""
        note_arguments(call.arguments)
        if pinned.cache == "shared":
            try:
                tool = tool or self._find_tool(pinned)
                arguments = _parse(pinned, call.arguments)
                _bind(tool, pinned, call.arguments)
            except _Refused as error:
                return tool_message(call, self._text(error), outcome="error"), False
            ask = ToolAsk(
                tool=tool, pinned=pinned, call=call, arguments=arguments, tenant=tenant, context=context.context
            )
            shared = await share_tool_call(self._sharing, ask)
            if shared is not None:
                return shared
        return await self._answer(pinned, call, context, tool), False

    async def _find_call(self, key: ConversationKey, request: CallToolRequest) -> ToolCallPart:
        if request.arguments is not None:
            return ToolCallPart(id=request.call_id, name=request.name, arguments=request.arguments)
        slot = await self._lookup.slot(key, request.call_slot, digest=request.call_digest)
        return slot.message.tool_calls[request.index]

    async def _answer(
        self, pinned: ToolSpec, call: ToolCallPart, context: ToolContext, tool: Tool | None = None
    ) -> Message:
        try:
            tool = tool or self._find_tool(pinned)
            arguments = _bind(tool, pinned, call.arguments)
            content = await self._run(tool, pinned, arguments, context)
            return self._checked(pinned, tool_message(call, content))
        except _Refused as error:
            return tool_message(call, self._text(error), outcome=error.outcome)
        except ToolRetry as error:
            return tool_message(call, self._text(error), outcome="error")
        except OutcomeUnknown as error:
            return unknown_outcome(pinned, call, self._text(error))

    def _checked(self, pinned: ToolSpec, message: Message) -> Message:
        """Refuse a result that is too large to be recorded: text was cut, but images and escapes were not.

        Temporal would fail the call when it is over, and the outcome would be unknown.
        """
        size, most = len(message.to_bytes()), _STORED_BYTES if self._host.has_storage else _INLINE_BYTES
        if size <= most:
            return message
        remedy = "" if self._host.has_storage else ", or configure external storage ([tool.perdure.storage])"
        raise _Refused(
            f"The call was made, but the result of {pinned.name} was not kept: it takes {size} bytes, more than "
            f"{most}. Ask for less; its author can put images and files into blobs (ToolContext.put_blob){remedy}."
        )

    def _find_tool(self, pinned: ToolSpec) -> Tool:
        if pinned.mcp is not None:
            return self._mcp.tool(pinned)
        tool = self._registry.tools.get(pinned.name)
        if tool is None:
            raise _Refused(f"The tool {pinned.name!r} is no longer there. Go on without it.")
        return tool

    async def _run(
        self, tool: Tool, pinned: ToolSpec, arguments: dict[str, Any], context: ToolContext
    ) -> tuple[ContentPart, ...]:
        local = activity.info().is_local
        with nullcontext(None) if local else Heart() as heart:
            clock = asyncio.timeout(pinned.timeout.total_seconds())
            try:
                async with clock:
                    value = await tool.run(arguments, context)
                most = pinned.max_result_bytes
                return to_content(value, most if self._host.has_storage else min(most, _INLINE_TEXT_BYTES))
            except (ToolRetry, OutcomeUnknown):
                raise
            except PydanticSerializationError as error:
                raise _Refused(f"{pinned.name} returned a value that has no JSON form: {error}") from None
            except ToolError as error:  # of perdure's own tools: it says what may be done about it
                told = _Failure(
                    f"{pinned.name}: {self._text(error.message)}",
                    is_final=error.non_retryable,
                    delay=error.next_retry_delay,
                    outcome="unknown" if error.attributes.get("outcome") == "unknown" else "error",
                )
            except (Exception, SystemExit) as error:  # sys.exit() in a tool must not stop the worker
                kind = type(error).__name__
                told = _Failure(f"{pinned.name} failed: {kind}: {self._text(error)}", error=kind)
                if clock.expired():
                    text = f"{pinned.name} did not finish within {pinned.timeout.total_seconds():g} seconds"
                    told = _Failure(text, error="TimeoutError")
            self._retry_or_refuse(pinned, told, heart)
            raise AssertionError("unreachable")

    def _retry_or_refuse(self, pinned: ToolSpec, told: _Failure, heart: Heart | None) -> None:
        tries = activity.info().attempt if heart is None else heart.count_try()
        if pinned.idempotent and tries < pinned.max_attempts and not told.is_final:
            delay = max(told.delay or timedelta(0), backoff(tries - 1))
            known = {"tool": pinned.name} | ({"error": told.error} if told.error else {})
            raise ToolError(told.text, is_retryable=True, next_retry_delay=delay, **known)
        raise _Refused(told.text, outcome=told.outcome)

    def _context(self, tool: str, key: str, values: Mapping[str, Any], tenant: str = "") -> ToolContext:
        info = activity.info()
        memory = RunMemory(
            client=activity.client,
            task_queue=info.task_queue,
            tenant=tenant,
            context=values,
            key=key,
            workflow_id=info.workflow_id or "",
        )
        return ToolContext(
            idempotency_key=key,
            workflow_id=info.workflow_id or "",
            tool=tool,
            attempt=info.attempt,
            context=values,
            resources=self._host.resources,
            http=self._host.http,
            heartbeat=_check_cancelled,
            put_blob=self._host.blobs.put,
            tenant=tenant,
            memory=memory,
        )

    def _text(self, error: BaseException | str) -> str:
        return self._host.redact(encodable(str(error)))[:_MAX_ERROR_CHARS]


def _bind(tool: Tool, pinned: ToolSpec, text: str) -> dict[str, Any]:
    """Check the arguments against the schema that the model was shown, then bind them to today's function."""
    arguments = _parse(pinned, text)
    is_schema_tool = isinstance(tool, SchemaTool)
    if tool.spec.parameters != pinned.parameters or (is_schema_tool and not tool.is_checked_there):
        try:
            faults = schema_faults(pinned.parameters, arguments)
        except Exception as error:  # of a schema that makes no sense, or a pattern that Python doesn't know
            reason = f"its schema can't be used: {type(error).__name__}: {error}"
            raise _Refused(f"{pinned.name} can't be called, since {reason}") from None
        if faults:
            raise _Refused("Invalid arguments. " + "; ".join(faults[:10]))
    try:
        return tool.bind(arguments)
    except ValidationError as error:
        changed = (
            "" if tool.spec.parameters == pinned.parameters else " (the tool has changed since the run began)"
        )
        raise _Refused(describe_invalid_arguments(error) + changed) from None
    except Exception as error:  # of a validator of the user's own
        raise _Refused(f"{pinned.name} could not check its arguments: {type(error).__name__}: {error}") from None


def _parse(pinned: ToolSpec, text: str) -> dict[str, Any]:
    try:
        parsed = json.loads(text or "{}")
    except (ValueError, RecursionError) as error:
        raise _Refused(f"The arguments are not JSON: {error}. Call {pinned.name} again.") from None
    if not isinstance(parsed, dict):
        raise _Refused(f"The arguments must be a JSON object. Call {pinned.name} again.")
    return cast("dict[str, Any]", parsed)


def _check_cancelled() -> None:
    if activity.is_cancelled():
        raise ApplicationError("The run was cancelled.", type="Cancelled", non_retryable=True)
