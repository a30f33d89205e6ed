"""One run in detail, from its Event History and the server's description. Client side; needs no worker."""

from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, JsonValue
from temporalio.api.workflow.v1 import PendingActivityInfo
from temporalio.api.workflowservice.v1 import DescribeWorkflowExecutionResponse
from temporalio.client import Client

from perdure.client._attempts import ModelTrouble
from perdure.client._runs import RunInfo
from perdure.client._transcript import said
from perdure.client._tree import Tree
from perdure.client._waits import RunWaits
from perdure.contracts.budget import Amount, Budget, budget_of
from perdure.contracts.calls import Progress
from perdure.contracts.fork import ForkedFrom
from perdure.contracts.money import MoneyStatus
from perdure.contracts.plan import PlanStatus
from perdure.contracts.run import Counters
from perdure.contracts.selection import Selection
from perdure.contracts.spec import AgentSpec
from perdure.contracts.usage import NO_USAGE
from perdure.encryption import reveal_failure
from perdure.history import RecordedRun
from perdure.spending import SpendingReader


class PendingCall(BaseModel):
    """A call in flight, or one that waits for its next attempt."""

    model_config = ConfigDict(frozen=True)

    activity: str
    activity_id: str
    attempt: int
    is_started: bool
    next_attempt_at: datetime | None = None
    last_failure: str = ""
    worker: str = ""
    progress: Progress | None = None
    """The end of the text so far; None before the first heartbeat."""


class Money(BaseModel):
    """What a run, and all below it, has taken of the limits that they share."""

    model_config = ConfigDict(frozen=True)

    budget: Budget
    spent: Amount
    """As limits count it: what the vendor didn't tell counts at its worst case."""
    reserved: Amount | None = None
    """None where no worker answered: then `spent` is what history has."""
    left: Amount | None = None
    """Of the limits that are set; None where no worker answered."""
    deadline: datetime | None = None
    """When their time is over, where it has a bound and a worker answered."""


class RunDetails(BaseModel):
    """A run in detail."""

    model_config = ConfigDict(frozen=True)

    info: RunInfo
    counters: Counters
    """Of the whole chain of runs, as far as it is recorded."""
    messages: int
    models: tuple[str, ...] = ()
    limits: dict[str, JsonValue] = {}
    money: Money | None = None
    """None where no limit holds that is shared with what is below it."""
    troubles: tuple[ModelTrouble, ...] = ()
    """Model calls that failed, or were answered after a failure only, in order."""
    pending: tuple[PendingCall, ...] = ()
    input: str = ""
    failure: str = ""
    """What a run failed with: the type of the error and its message."""
    selections: tuple[Selection, ...] = ()
    """The agents that it chose, in order, and why."""
    plan: PlanStatus | None = None
    """The tasks of its plan, where it has one and a worker answered."""
    tree: Tree = Tree()
    """The runs below it, and the tasks of its plan."""
    forked: ForkedFrom | None = None
    """The run that it was forked from, and at which turn."""
    waits: tuple[RunWaits, ...] = ()
    """What it, and the runs below it, wait for people for."""
    task_attempt: int = 1
    """Above 1 the workflow's code fails, and Temporal runs it again."""


async def details(
    info: RunInfo, described: DescribeWorkflowExecutionResponse, run: RecordedRun, client: Client
) -> RunDetails:
    """Put together what is known of a run."""
    spec = next(iter(run.specs.values()), None)
    pending = [await _pending(each, client) for each in described.pending_activities]
    text = ""
    if run.request is not None:
        text = "".join(getattr(part, "text", "") for part in run.request.input) or _first_text(run)
    return RunDetails(
        info=info if info.agent or spec is None else info.model_copy(update={"agent": spec.name}),
        counters=count(run),
        messages=len(run.conversation()),
        models=tuple(model.name for model in spec.models) if spec else (),
        limits=_limits(spec),
        pending=tuple(pending),
        input=text,
        selections=tuple(run.selections),
        forked=None if run.request is None else run.request.forked,
        task_attempt=max(described.pending_workflow_task.attempt, 1),
    )


def money_now(status: MoneyStatus) -> Money:
    """Return what an open run says of its limit."""
    taken, budget = status.spent + status.reserved, status.budget
    left = Amount(
        tokens=(budget.tokens or taken.tokens) - taken.tokens,
        cost_usd=(budget.cost_usd or taken.cost_usd) - taken.cost_usd,
        model_calls=(budget.model_calls or taken.model_calls) - taken.model_calls,
        tool_calls=(budget.tool_calls or taken.tool_calls) - taken.tool_calls,
    )
    return Money(budget=budget, spent=status.spent, reserved=status.reserved, left=left, deadline=status.deadline)


def money_of(run: RecordedRun, spending: SpendingReader) -> Money | None:
    """Return what a run has spent of its limit, as its history has it."""
    spec = next(iter(run.specs.values()), None)
    base = spending.shared if run.request is None or spec is None else spec.limits
    budget = budget_of(spending.raised.over(base))
    if not budget.is_bound:
        return None
    return Money(budget=budget, spent=spending.spent(run.specs) + own_tool_calls(run))


def own_tool_calls(run: RecordedRun) -> Amount:
    """Return the tool calls that are in the history of the run itself."""
    before = None if run.request is None else run.request.carried
    return Amount(tool_calls=count(run).tool_calls - (before.counters.tool_calls if before else 0))


def count(run: RecordedRun) -> Counters:
    """Add up what a run has recorded, on top of what it was started with."""
    carried = run.request.carried if run.request is not None else None
    base = carried.counters if carried is not None else Counters()
    results = run.model_results.values()
    usage, saved_usage = base.usage, base.saved_usage
    for result in results:
        usage = usage + result.usage
        saved_usage = saved_usage + (result.saved or NO_USAGE)
    for summary in run.summaries:
        usage = usage + summary.usage
    answered = [entry for entry in said(run) if entry.message.role == "tool"]
    return Counters(
        turns=base.turns + len(results),
        model_calls=base.model_calls + len(results) + len(run.summaries),
        tool_calls=base.tool_calls + len(answered),
        usage=usage,
        saved_tool_calls=base.saved_tool_calls + len(run.saved),
        saved_model_calls=base.saved_model_calls + sum(result.saved is not None for result in results),
        saved_usage=saved_usage,
        copied_turns=base.copied_turns,
    )


def _first_text(run: RecordedRun) -> str:
    """Return what a person said first, for a run that has copied it from another."""
    first = run.conversation().get(0)
    return first.text if first is not None and first.role == "user" and not first.author else ""


def _limits(spec: AgentSpec | None) -> dict[str, JsonValue]:
    dumped: dict[str, Any] = spec.limits.model_dump(mode="json") if spec else {}
    return dumped


async def _pending(info: PendingActivityInfo, client: Client) -> PendingCall:
    progress = None
    if info.heartbeat_details.payloads:
        values = await client.data_converter.decode(list(info.heartbeat_details.payloads)[:1], [Progress])
        progress = values[0]
    if info.HasField("last_failure"):
        await reveal_failure(info.last_failure, client.data_converter)
    is_started = info.state == 2
    waits = info.HasField("next_attempt_schedule_time") and not is_started
    return PendingCall(
        activity=info.activity_type.name,
        activity_id=info.activity_id,
        attempt=max(info.attempt, 1),
        is_started=is_started,
        next_attempt_at=info.next_attempt_schedule_time.ToDatetime(tzinfo=UTC) if waits else None,
        last_failure=info.last_failure.message if info.HasField("last_failure") else "",
        worker=info.last_worker_identity,
        progress=progress,
    )
