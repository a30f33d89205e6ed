"""Child runs as their parent's Event History tells of them. Client side; needs no worker.

History is exact and at once, where the server's list of runs lags behind by a second or so.
"""

from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp
from pydantic import BaseModel, ConfigDict
from temporalio.api.enums.v1 import EventType
from temporalio.api.failure.v1 import Failure
from temporalio.api.history.v1 import HistoryEvent
from temporalio.converter import DataConverter

from perdure.client._runs import RunStatusName
from perdure.contracts.names import AGENT_WORKFLOW, PLAN_WORKFLOW
from perdure.contracts.plan import Plan, PlanRunInput
from perdure.contracts.run import RunInput
from perdure.history import readable_storage

_ENDS: dict[int, tuple[str, RunStatusName]] = {
    EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_COMPLETED: ("completed", "completed"),
    EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_FAILED: ("failed", "failed"),
    EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_CANCELED: ("canceled", "canceled"),
    EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_TERMINATED: ("terminated", "terminated"),
    EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_TIMED_OUT: ("timed_out", "timed_out"),
}


class ChildRun(BaseModel):
    """A child run."""

    model_config = ConfigDict(frozen=True)

    workflow_id: str
    run_id: str = ""
    workflow: str
    agent: str | None = None
    status: RunStatusName = "running"
    started_at: datetime
    closed_at: datetime | None = None
    failure: str = ""


class ChildReader:
    """Takes in the events of one run.

    Attributes:
        children: The children so far, in the order of their start, by the event that asked for them.
        plan: The plan that the run was started with, where it is a `PlanWorkflow`.
    """

    def __init__(self, converter: DataConverter) -> None:
        """Start with nothing read."""
        self.children: dict[int, ChildRun] = {}
        self.plan: Plan | None = None
        self._converter = converter

    async def read(self, event: HistoryEvent) -> ChildRun | None:
        """Take an event in; return the child that it is about, where it changes one."""
        match event.event_type:
            case EventType.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED:
                await self._started(event)
            case EventType.EVENT_TYPE_START_CHILD_WORKFLOW_EXECUTION_INITIATED:
                return await self._initiated(event)
            case EventType.EVENT_TYPE_START_CHILD_WORKFLOW_EXECUTION_FAILED:
                failed = event.start_child_workflow_execution_failed_event_attributes
                return self._change(failed.initiated_event_id, status="failed", failure="it could not be started")
            case EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_STARTED:
                started = event.child_workflow_execution_started_event_attributes
                return self._change(started.initiated_event_id, run_id=started.workflow_execution.run_id)
            case kind if kind in _ENDS:
                return self._ended(event)
            case _:
                pass
        return None

    async def _started(self, event: HistoryEvent) -> None:
        started = event.workflow_execution_started_event_attributes
        if started.workflow_type.name == PLAN_WORKFLOW and started.input.payloads:
            payloads = list(started.input.payloads)[:1]
            with readable_storage():
                request: PlanRunInput = (await self._converter.decode(payloads, [PlanRunInput]))[0]
            self.plan = request.plan

    async def _initiated(self, event: HistoryEvent) -> ChildRun:
        child = event.start_child_workflow_execution_initiated_event_attributes
        agent = None
        if child.workflow_type.name == AGENT_WORKFLOW and child.input.payloads:
            with readable_storage():
                request: RunInput = (await self._converter.decode(list(child.input.payloads)[:1], [RunInput]))[0]
            agent = request.agent
        made = ChildRun(
            workflow_id=child.workflow_id,
            workflow=child.workflow_type.name,
            agent=agent,
            started_at=time_of(event.event_time),
        )
        self.children[event.event_id] = made
        return made

    def _ended(self, event: HistoryEvent) -> ChildRun | None:
        word, status = _ENDS[event.event_type]
        attributes = getattr(event, f"child_workflow_execution_{word}_event_attributes")
        failure = reason_of(attributes.failure) if status == "failed" else ""
        closed_at = time_of(event.event_time)
        return self._change(attributes.initiated_event_id, status=status, failure=failure, closed_at=closed_at)

    def _change(self, initiated: int, **changes: object) -> ChildRun | None:
        known = self.children.get(initiated)
        if known is None:
            return None
        changed = known.model_copy(update=changes)
        self.children[initiated] = changed
        return None if changed.status == known.status else changed


def reason_of(failure: Failure) -> str:
    """Return the type of a failure, where it has one, and its message."""
    kind = failure.application_failure_info.type
    return f"{kind}: {failure.message}" if kind else failure.message


def time_of(stamp: Timestamp) -> datetime:
    """Return the protocol's time, in UTC."""
    return stamp.ToDatetime(tzinfo=UTC)
