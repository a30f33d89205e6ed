"""What is good of a run that is over, for the workflow that goes on from it. Activity side."""

from typing import Any

from temporalio import activity
from temporalio.api.enums.v1 import EventType, WorkflowTaskFailedCause
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import Client, WorkflowExecutionStatus, WorkflowHandle
from temporalio.service import RPCError, RPCStatusCode

from perdure.contracts.budget import NOTHING, Amount
from perdure.contracts.names import AGENT_WORKFLOW, FIND_EARLIER, RESUME_RUN
from perdure.contracts.rerun import FindEarlierResult, ResumeRunRequest, ResumeRunResult
from perdure.contracts.run import EarlierRun
from perdure.errors import StillRunningError
from perdure.history import RunReader
from perdure.resuming import read_closed
from perdure.spending import SpendingReader


class ResumeActivities:
    """Reads runs of before."""

    @activity.defn(name=FIND_EARLIER)
    async def find_earlier(self) -> FindEarlierResult:
        """Return the child runs that the workflow had started after the point that it was reset to.

        Where it was reset several times, the last run of each workflow id counts.

        Raises:
            RPCError: Temporal's. Retryable.
        """
        info = activity.info()
        workflow_id, run_id = info.workflow_id or "", info.workflow_run_id or ""
        found: dict[str, list[EarlierRun]] = {}
        spent, is_counted = NOTHING, False
        reset = (await _read_children(workflow_id, run_id)).reset
        while reset is not None:
            try:
                base = await _read_children(workflow_id, reset[0], until=reset[1])
            except RPCError as error:
                if error.status is not RPCStatusCode.NOT_FOUND:
                    raise
                break  # its time of retention is over
            for name, runs in base.after(reset[1]).items():
                found.setdefault(name, runs)
            if not is_counted:
                spent, is_counted = spent + base.forgotten(), base.has_found
            reset = base.reset
        return FindEarlierResult(runs=tuple(run for runs in found.values() for run in runs), spent=spent)

    @activity.defn(name=RESUME_RUN)
    async def resume_run(self, request: ResumeRunRequest) -> ResumeRunResult:
        """Return a run's result, or from where it goes on.

        Raises:
            StillRunningError: The run isn't over yet: it cleans up. Retryable.
            RPCError: Temporal's. Retryable.
        """
        run, client = request.run, activity.client()
        handle: WorkflowHandle[Any, Any] = client.get_workflow_handle(run.workflow_id, run_id=run.run_id)
        handle = await _last(client, handle)
        described = await handle.describe()
        run = run.model_copy(update={"run_id": described.run_id})
        if described.status in (WorkflowExecutionStatus.RUNNING, None):
            raise StillRunningError(f"The run {run.workflow_id!r} isn't over yet.")
        if described.status == WorkflowExecutionStatus.COMPLETED:
            items = await _items(client, run) if request.with_items else {}
            return ResumeRunResult(result=await handle.result(follow_runs=False), runs=tuple(items.values()))
        if described.workflow_type == AGENT_WORKFLOW:
            reader = await read_closed(client, run)
            return ResumeRunResult(carried=reader.carried(), spent=reader.spent)
        return ResumeRunResult(runs=tuple((await _items(client, run)).values()))


async def _items(client: Client, node: EarlierRun) -> dict[str, EarlierRun]:
    """Return the runs of a node's items by workflow id, with those that nodes before it had."""
    reader = await read_closed(client, node)
    runs: dict[str, EarlierRun] = {}
    for before in reader.before:
        try:
            runs |= await _items(client, before)
        except RPCError as error:
            if error.status is not RPCStatusCode.NOT_FOUND:
                raise  # else its time of retention is over
    return runs | reader.runs


async def _read_children(workflow_id: str, run_id: str, *, until: int = 0) -> "_Children":
    children = _Children(until)
    handle = activity.client().get_workflow_handle(workflow_id, run_id=run_id)
    async for event in handle.fetch_history_events():
        await children.read(event)
    return children


class _Children:
    """The child runs of a run, and what it took of its limit.

    Attributes:
        reset: The run that this one was reset from, and the event from which on that one's history isn't its own.
    """

    def __init__(self, until: int) -> None:
        """Tell what was taken from the event `until` on."""
        self.reset: tuple[str, int] | None = None
        self._until = until
        self._run = RunReader(activity.client().data_converter)
        self._spending = SpendingReader(activity.client().data_converter)
        self._kept = NOTHING
        self._asked_by: dict[int, int] = {}
        self._runs: list[tuple[int, EarlierRun]] = []

    @property
    def has_found(self) -> bool:
        """Say whether what it took has what runs before it took in it."""
        return self._spending.has_found

    def forgotten(self) -> Amount:
        """Return what was taken from the event on that the run after it doesn't know."""
        return self._spending.spent(self._run.run.specs) - self._kept

    async def read(self, event: HistoryEvent) -> None:
        """Take an event in."""
        if event.event_id == self._until:
            self._kept = self._spending.spent(self._run.run.specs, with_open=False)
        await self._run.read(event)
        await self._spending.read(event)
        match event.event_type:
            case EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED:
                failed = event.workflow_task_failed_event_attributes
                if failed.cause == WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_RESET_WORKFLOW:
                    self.reset = (failed.base_run_id, event.event_id)
            case EventType.EVENT_TYPE_START_CHILD_WORKFLOW_EXECUTION_INITIATED:
                asked = event.start_child_workflow_execution_initiated_event_attributes
                self._asked_by[event.event_id] = asked.workflow_task_completed_event_id
            case EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_STARTED:
                started = event.child_workflow_execution_started_event_attributes
                execution = started.workflow_execution
                run = EarlierRun(workflow_id=execution.workflow_id, run_id=execution.run_id)
                self._runs.append((self._asked_by.get(started.initiated_event_id, 0), run))
            case _:
                pass

    def after(self, event_id: int) -> dict[str, list[EarlierRun]]:
        """Return the runs that a workflow task from that event on asked for."""
        found: dict[str, list[EarlierRun]] = {}
        for asked_by, run in self._runs:
            if asked_by >= event_id:
                found.setdefault(run.workflow_id, []).append(run)
        return found


async def _last(client: Client, handle: "WorkflowHandle[Any, Any]") -> "WorkflowHandle[Any, Any]":
    """Return the run that continues a run as new, at the end of the chain."""
    while True:
        described = await handle.describe()
        if described.status != WorkflowExecutionStatus.CONTINUED_AS_NEW:
            return handle
        events = [event async for event in handle.fetch_history_events(page_size=1000)]
        continued = events[-1].workflow_execution_continued_as_new_event_attributes
        handle = client.get_workflow_handle(handle.id, run_id=continued.new_execution_run_id)
