"""Scheduling perdure's activities, with the options that a run can't wedge on. Workflow side.

No activity has Temporal's default retry policy, which has no end. Where waiting out a rate limit is a retry too,
the time for all attempts bounds them, and the activity counts the real ones. The interval doesn't grow: that
is for a worker that died, and whoever fails for another reason says itself how long to wait.
"""

import asyncio
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, Final, TypedDict, TypeVar
from weakref import WeakValueDictionary

from pydantic_core import to_json
from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError, CancelledError, FailureError, is_cancelled_exception
from temporalio.workflow import ActivityCancellationType

from perdure.contracts._base import Contract
from perdure.contracts.calls import (
    CallModelRequest,
    CallModelResult,
    CallToolRequest,
    CallToolResult,
    CompactRequest,
    CompactResult,
    CopyConversationRequest,
    CopyConversationResult,
    FirstAttributes,
    FirstAttributesRequest,
    LoadAgentRequest,
    ReadOutputRequest,
    ReadOutputResult,
    RunToolRequest,
    SlotMessage,
    Verdict,
    VerifyRequest,
)
from perdure.contracts.map import ReadPageRequest, ReadPageResult
from perdure.contracts.names import (
    CALL_MODEL,
    CALL_TOOL,
    CHECK_APPROVAL,
    CHECK_PLAN,
    COMPACT,
    COPY_CONVERSATION,
    DESCRIBE_AGENTS,
    FIND_EARLIER,
    FIRST_ATTRIBUTES,
    LOAD_AGENT,
    LOAD_TOOL,
    OPEN_WAIT,
    QUOTE_SELECTION,
    READ_OUTPUT,
    READ_PAGE,
    RECORD_OUTCOMES,
    RESUME_RUN,
    RUN_TOOL,
    SELECT_AGENT,
    VERIFY,
)
from perdure.contracts.plan import CheckPlanRequest, CheckPlanResult, DescribeAgentsResult
from perdure.contracts.rerun import FindEarlierResult, ResumeRunRequest, ResumeRunResult
from perdure.contracts.scores import OutcomeBatch, RecordOutcomesResult
from perdure.contracts.selection import Selection, SelectionQuote, SelectRequest
from perdure.contracts.spec import AgentSpec, ToolSpec
from perdure.contracts.times import shared_time
from perdure.contracts.waits import ApprovalAdvice, CheckApprovalRequest, OpenWaitResult
from perdure.workflows._clock import shorter
from perdure.workflows._decisions import model_summary
from perdure.workflows._outgoing import outgoing

T = TypeVar("T", bound=Contract)

_NEVER_RETRIED = ["PayloadsTooLarge", "PayloadSizeError", "NotFoundError", "TypeError"]
_MARGIN = timedelta(seconds=30)
"""For finding the conversation, beyond the time of the call itself."""
_CRASHES = 10
"""Attempts at an idempotent tool beyond those that it may fail itself."""
_HEARTBEAT_TIMEOUT = timedelta(seconds=3)
USER_CODE = timedelta(hours=1)
"""For a function of the user's, all attempts together."""
_OPENING = timedelta(seconds=60)
"""What is pinned may be asked of MCP servers, which take up to 45 seconds to open. No history has this time."""
_SHORT_BYTES = 10_000
_TOOL_BYTES = 20_000
_SPEC_BYTES = 300_000
"""More of instructions and tools fits into few models' windows; the context comes on top."""
_TEXT_BYTES = 1024 * 1024
"""The most that a tool's text may take without external storage; three quarters of what is allowed is taken for
usual, so that eight calls with the default of 256 kB run at once."""
_SPECS: WeakValueDictionary[str, AgentSpec] = WeakValueDictionary()
_WAIT = ActivityCancellationType.WAIT_CANCELLATION_COMPLETED


class _Times(TypedDict):
    start_to_close_timeout: timedelta
    schedule_to_close_timeout: timedelta
    retry_policy: RetryPolicy


def _retries(maximum_attempts: int) -> RetryPolicy:
    return RetryPolicy(
        initial_interval=timedelta(milliseconds=200),
        backoff_coefficient=1,
        maximum_attempts=maximum_attempts,
        non_retryable_error_types=_NEVER_RETRIED,
    )


_LOOKING_UP: Final[_Times] = {
    "start_to_close_timeout": timedelta(seconds=10),
    "schedule_to_close_timeout": timedelta(minutes=1),
    "retry_policy": _retries(5),
}
"""For a local activity that asks the worker what it knows."""
_READING: Final[_Times] = {
    "start_to_close_timeout": timedelta(minutes=2),
    "schedule_to_close_timeout": timedelta(hours=1),
    "retry_policy": _retries(100),
}
"""For an activity that reads what other runs have recorded."""


async def load_agent(request: LoadAgentRequest) -> AgentSpec:
    """Pin the agent: one marker in history, which holds the whole spec."""
    spec = await _execute_local(
        LOAD_AGENT,
        request,
        result_type=AgentSpec,
        start_to_close_timeout=_OPENING,
        schedule_to_close_timeout=3 * _OPENING,
        retry_policy=_retries(5),
        summary=f"load agent {request.agent}",
        most=_SPEC_BYTES + len(to_json(request.context)),
    )
    return _shared(spec)


def pinned_spec(digest: str) -> AgentSpec | None:
    """Return the spec of that digest, if a run of this process is pinned to it."""
    return _SPECS.get(digest)


def _shared(spec: AgentSpec) -> AgentSpec:
    """Return the equal spec that another run of this process holds, so that a thousand runs hold one."""
    return _SPECS.setdefault(spec.digest, spec)


async def first_attributes(request: FirstAttributesRequest) -> FirstAttributes:
    """Find what runs of an agent are to be found by."""
    return await _execute_local(
        FIRST_ATTRIBUTES,
        request,
        result_type=FirstAttributes,
        **_LOOKING_UP,
        summary=f"what runs of {request.agent} are found by",
    )


async def copy_conversation(request: CopyConversationRequest) -> CopyConversationResult:
    """Record a page of the conversation of the run that this one continues."""
    result = await workflow.execute_activity(
        COPY_CONVERSATION,
        request,
        result_type=CopyConversationResult,
        **_READING,
        summary=f"messages from {request.start}",
    )
    return result if result.spec is None else result.model_copy(update={"spec": _shared(result.spec)})


def model_time(spec: AgentSpec) -> timedelta:
    """Return how long a model call may take, all attempts together."""
    waiting = timedelta(minutes=1) if spec.settings.cache == "shared" else timedelta(0)
    return max(spec.settings.max_wait, spec.settings.timeout + _MARGIN) + waiting


async def call_model(
    spec: AgentSpec,
    request: CallModelRequest,
    *,
    turn: int,
    on_started: Callable[["asyncio.Task[Any]"], None] | None = None,
    within: timedelta | None = None,
) -> CallModelResult:
    """Ask a model; `on_started` is given the call in flight. Raises ActivityError when it has failed for good."""
    async with outgoing().sending(_size_of(request.new)):
        call = workflow.start_activity(
            CALL_MODEL,
            request,
            result_type=CallModelResult,
            task_queue=spec.models[request.model].task_queue or None,
            start_to_close_timeout=spec.settings.timeout + _MARGIN,
            schedule_to_close_timeout=shorter(model_time(spec), within),
            heartbeat_timeout=spec.heartbeat_timeout,
            retry_policy=_retries(0),
            cancellation_type=_WAIT,
            summary=model_summary(turn, spec, request),
        )
        if on_started is not None:
            on_started(call)
        return await call


def _size_of(new: Sequence[SlotMessage]) -> int:
    return sum(len(each.message.to_bytes()) for each in new)


async def compact(request: CompactRequest, *, within: timedelta | None = None) -> CompactResult:
    """Make room in a conversation without a model."""
    way = request.step.function or request.step.action.replace("_", " ")
    async with outgoing().sending(_size_of(request.new)):
        return await workflow.execute_activity(
            COMPACT,
            request,
            result_type=CompactResult,
            start_to_close_timeout=timedelta(minutes=10),
            schedule_to_close_timeout=shorter(USER_CODE, within),
            retry_policy=_retries(10),
            summary=f"make room: {way}",
        )


async def call_tool(
    spec: AgentSpec, tool: ToolSpec, request: CallToolRequest, *, summary: str, within: timedelta | None = None
) -> CallToolResult:
    """Run a tool call. Raises ActivityError when its outcome is not known."""
    return await _execute_tool(CALL_TOOL, tool, request, spec.heartbeat_timeout, summary, within)


async def load_tool(name: str) -> ToolSpec:
    """Pin the policy of a tool that a workflow calls without a model."""
    return await _execute_local(
        LOAD_TOOL,
        name,
        result_type=ToolSpec,
        start_to_close_timeout=_OPENING,
        schedule_to_close_timeout=3 * _OPENING,
        retry_policy=_retries(5),
        summary=f"load tool {name}",
        most=_TOOL_BYTES,
    )


async def run_tool(request: RunToolRequest, *, summary: str) -> CallToolResult:
    """Run a tool without a model. Raises ActivityError when its outcome is not known."""
    return await _execute_tool(RUN_TOOL, request.tool, request, _HEARTBEAT_TIMEOUT, summary, None)


async def check_plan(request: CheckPlanRequest) -> CheckPlanResult:
    """Find the faults of a plan, with the agents that the worker has."""
    return await _execute_local(
        CHECK_PLAN,
        request,
        result_type=CheckPlanResult,
        **_LOOKING_UP,
        summary="check the plan" if request.amendment is None else "check the amendment",
    )


async def describe_agents(planner: str) -> DescribeAgentsResult:
    """Find what a planner must know of the worker's other agents."""
    return await _execute_local(
        DESCRIBE_AGENTS,
        planner,
        result_type=DescribeAgentsResult,
        **_LOOKING_UP,
        summary=f"agents for {planner}",
    )


async def read_output(request: ReadOutputRequest) -> ReadOutputResult:
    """Read a child's output that was too large for its result."""
    return await workflow.execute_activity(
        READ_OUTPUT,
        request,
        result_type=ReadOutputResult,
        **_READING,
        summary=f"output of {request.workflow_id}",
    )


async def verify(spec: AgentSpec, request: VerifyRequest, *, within: timedelta | None = None) -> Verdict:
    """Judge an answer by the function of the agent."""
    return await workflow.execute_activity(
        VERIFY,
        request,
        result_type=Verdict,
        start_to_close_timeout=timedelta(minutes=10),
        schedule_to_close_timeout=shorter(USER_CODE, within),
        retry_policy=_retries(10),
        summary=f"verify by {spec.verify}",
    )


async def find_earlier() -> FindEarlierResult:
    """Find the child runs of before a reset."""
    return await workflow.execute_activity(
        FIND_EARLIER,
        result_type=FindEarlierResult,
        **_READING,
        summary="child runs of before the reset",
    )


async def resume_run(request: ResumeRunRequest) -> ResumeRunResult:
    """Find out what is good of a run that is over."""
    return await workflow.execute_activity(
        RESUME_RUN,
        request,
        result_type=ResumeRunResult,
        **_READING,
        summary=f"keep {request.run.workflow_id}",
    )


async def read_page(request: ReadPageRequest) -> ReadPageResult:
    """Read outcomes of a map that stayed in the run of one of its nodes."""
    return await workflow.execute_activity(
        READ_PAGE,
        request,
        result_type=ReadPageResult,
        **_READING,
        summary=f"outcomes from item {request.start}",
    )


async def quote_selection(request: SelectRequest) -> SelectionQuote:
    """Find what having a model choose can take at most."""
    return await _execute_local(
        QUOTE_SELECTION,
        request,
        result_type=SelectionQuote,
        start_to_close_timeout=timedelta(seconds=5),
        schedule_to_close_timeout=timedelta(minutes=1),
        retry_policy=_retries(5),
        summary="what choosing an agent can take",
    )


async def select_agent(request: SelectRequest, *, within: timedelta | None = None) -> Selection:
    """Choose an agent: in a local activity, or one of its own where a model is asked.

    What is reserved for it is for one attempt.
    """
    summary = " · ".join(filter(None, ("select an agent", request.kind, f"by {request.strategy}")))
    if request.strategy != "model":
        return await _execute_local(
            SELECT_AGENT,
            request,
            result_type=Selection,
            start_to_close_timeout=timedelta(seconds=5),
            schedule_to_close_timeout=timedelta(minutes=1),
            retry_policy=_retries(5),
            summary=summary,
        )
    return await workflow.execute_activity(
        SELECT_AGENT,
        request,
        result_type=Selection,
        start_to_close_timeout=timedelta(minutes=2),
        schedule_to_close_timeout=shorter(timedelta(minutes=10), within),
        heartbeat_timeout=_HEARTBEAT_TIMEOUT,
        retry_policy=_retries(5 if request.bounds is None else 1),
        cancellation_type=_WAIT,
        summary=summary,
    )


async def check_approval(request: CheckApprovalRequest) -> ApprovalAdvice:
    """Ask the policy function of a tool about one call."""
    return await _execute_local(
        CHECK_APPROVAL,
        request,
        result_type=ApprovalAdvice,
        start_to_close_timeout=timedelta(seconds=10),
        schedule_to_close_timeout=timedelta(minutes=1),
        retry_policy=_retries(3),
        summary=f"policy of {request.tool}",
    )


async def open_wait() -> OpenWaitResult:
    """Find what a workflow of the user's own must know before it waits for a person; nothing where that fails."""
    try:
        return await workflow.execute_local_activity(
            OPEN_WAIT,
            result_type=OpenWaitResult,
            **_LOOKING_UP,
        )
    except FailureError as error:
        if is_cancelled_exception(error):
            raise
        return OpenWaitResult()


async def record_outcomes(batch: OutcomeBatch) -> RecordOutcomesResult:
    """Send a batch to the scoreboard, once."""
    return await _execute_local(
        RECORD_OUTCOMES,
        batch,
        result_type=RecordOutcomesResult,
        start_to_close_timeout=timedelta(seconds=5),
        schedule_to_close_timeout=timedelta(seconds=10),
        retry_policy=_retries(1),
        summary=f"{len(batch.outcomes)} outcomes for the scoreboard",
    )


async def _execute_local(
    activity: str, argument: Any, *, result_type: type[T], most: int = _SHORT_BYTES, **options: Any
) -> T:
    """Run a local activity with a result of about `most` bytes; its failure comes as that of any activity does.

    The SDK raises the cause alone, without the ActivityError around it.
    """
    try:
        async with outgoing().recording(most) as took:
            result = await workflow.execute_local_activity(activity, argument, result_type=result_type, **options)
            took(len(result.to_bytes()))
            return result
    except (ActivityError, CancelledError):
        raise
    except FailureError as error:
        raise ActivityError(
            "Local activity failed",
            scheduled_event_id=0,
            started_event_id=0,
            identity="",
            activity_type=activity,
            activity_id="",
            retry_state=None,
        ) from error


async def _execute_tool(
    activity: str,
    tool: ToolSpec,
    request: CallToolRequest | RunToolRequest,
    heartbeat_timeout: timedelta,
    summary: str,
    within: timedelta | None,
) -> CallToolResult:
    if tool.local:
        time = (tool.timeout + timedelta(seconds=1)) * (tool.max_attempts + 1)
        return await _execute_local(
            activity,
            request,
            result_type=CallToolResult,
            start_to_close_timeout=tool.timeout + timedelta(seconds=1),
            schedule_to_close_timeout=shorter(time, within),
            retry_policy=_retries(tool.max_attempts),
            cancellation_type=_WAIT,
            summary=summary,
            most=min(tool.max_result_bytes, _TEXT_BYTES) * 3 // 4,
        )
    session = request.session if isinstance(request, CallToolRequest) else None
    is_held = session is not None and session.task_queue != ""
    attempts = tool.max_attempts + _CRASHES if tool.idempotent else 1
    is_shared = tool.cache == "shared"
    timeout = tool.timeout + _MARGIN
    # Waiting for another run's call is a retry too: the time for all of them bounds it.
    most = shared_time(timeout, attempts) + timedelta(minutes=1) if is_shared else None
    async with outgoing().sending(len(request.to_bytes())):
        return await workflow.execute_activity(
            activity,
            request,
            result_type=CallToolResult,
            task_queue=(session.task_queue if session is not None and is_held else tool.task_queue) or None,
            start_to_close_timeout=timeout,
            # A worker that doesn't take a call for so long is gone, and with it the session that it held.
            schedule_to_start_timeout=4 * heartbeat_timeout if is_held else None,
            schedule_to_close_timeout=within if most is None else shorter(most, within),
            heartbeat_timeout=heartbeat_timeout,
            retry_policy=_retries(0 if is_shared else attempts),
            cancellation_type=_WAIT,
            summary=f"{summary} · shared" if is_shared else summary,
        )
