"""To which of its workflow tasks a closed run is reset, and what of it is kept beyond. Client side; pure.

Temporal keeps what is in history before the point, and runs the code anew from there. The point is before the step
that the run failed for, and before the start of every child that was open then, whose end would else be handed to
the new run. Children that were started after the point and completed are kept as well: the new run is told of
them, and perdure's primitives take their results rather than start them again.
"""

import re
from dataclasses import dataclass, field

from temporalio.api.enums.v1 import EventType
from temporalio.api.failure.v1 import Failure
from temporalio.api.history.v1 import HistoryEvent
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.converter import DataConverter

from perdure.contracts.calls import RunToolRequest
from perdure.contracts.names import (
    AGENT_WORKFLOW,
    FIND_EARLIER,
    MAP_NODE,
    READ_OUTPUT,
    READ_PAGE,
    RECORD_OUTCOMES,
    RESUME_RUN,
    RUN_TOOL,
    SELECT_AGENT,
    VERIFY,
)
from perdure.contracts.run import EarlierRun

_HARMLESS = (FIND_EARLIER, RESUME_RUN, READ_OUTPUT, READ_PAGE, VERIFY, SELECT_AGENT, RECORD_OUTCOMES)
_END = re.compile(
    "(?P<kind>child_workflow_execution|activity_task)_(?P<word>completed|failed|canceled|terminated|timed_out)"
    "_event_attributes"
)


@dataclass
class _Step:
    """A child or an activity."""

    name: str
    task: int
    """The workflow task that asked for it."""
    run: EarlierRun | None = None
    is_child: bool = False
    is_once: bool = False
    """A tool that must not be run again."""
    end: int = 0
    """The event that ended it; 0 where there is none."""
    is_good: bool = False
    is_failed: bool = False


@dataclass(frozen=True)
class ResetPoint:
    """Where a run goes on."""

    task: int
    """The workflow task that is taken back, by the event that completed it; 0 where there is none."""
    runs: tuple[EarlierRun, ...]
    """Child runs after it whose work is kept."""
    open_runs: tuple[EarlierRun, ...]
    """Those of them that were not over when the run was."""
    repeats: tuple[str, ...]
    """What was finished after it and is done again."""
    repeats_once: tuple[str, ...]
    """Tools among these, or in flight, that aren't idempotent."""
    is_beginning: bool


@dataclass
class ResetReader:
    """Takes in the history of a closed run."""

    converter: DataConverter = pydantic_data_converter
    _tasks: list[int] = field(default_factory=list[int])
    _steps: dict[int, _Step] = field(default_factory=dict[int, _Step])
    _failure: Failure | None = None
    _cancelled_at: int = 0

    async def read(self, event: HistoryEvent) -> None:
        """Take an event in."""
        match event.event_type:
            case EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED:
                self._tasks.append(event.event_id)
            case EventType.EVENT_TYPE_START_CHILD_WORKFLOW_EXECUTION_INITIATED:
                child = event.start_child_workflow_execution_initiated_event_attributes
                run = EarlierRun(workflow_id=child.workflow_id, run_id="")
                self._steps[event.event_id] = _Step(
                    child.workflow_type.name, child.workflow_task_completed_event_id, run=run, is_child=True
                )
            case EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_STARTED:
                started = event.child_workflow_execution_started_event_attributes
                execution = started.workflow_execution
                self._steps[started.initiated_event_id].run = EarlierRun(
                    workflow_id=execution.workflow_id, run_id=execution.run_id
                )
            case EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED:
                await self._read_activity(event)
            case EventType.EVENT_TYPE_WORKFLOW_EXECUTION_FAILED:
                self._failure = event.workflow_execution_failed_event_attributes.failure
            case EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CANCEL_REQUESTED:
                self._cancelled_at = self._cancelled_at or event.event_id
            case _:
                self._read_end(event)

    async def _read_activity(self, event: HistoryEvent) -> None:
        scheduled = event.activity_task_scheduled_event_attributes
        name = scheduled.activity_type.name
        step = _Step(name, scheduled.workflow_task_completed_event_id)
        if name == RUN_TOOL:
            payloads = list(scheduled.input.payloads)
            request: RunToolRequest = (await self.converter.decode(payloads, [RunToolRequest]))[0]
            step.name, step.is_once = request.tool.name, not request.tool.idempotent
        self._steps[event.event_id] = step

    def _read_end(self, event: HistoryEvent) -> None:
        found = _END.fullmatch(event.WhichOneof("attributes") or "")
        if found is None:
            return
        attributes = getattr(event, found[0])
        key = "initiated_event_id" if found["kind"] == "child_workflow_execution" else "scheduled_event_id"
        step = self._steps[getattr(attributes, key)]
        step.end, step.is_good = event.event_id, found["word"] == "completed"
        step.is_failed = found["word"] in ("failed", "terminated", "timed_out")

    def point(self) -> ResetPoint:
        """Return where the run goes on."""
        if not self._tasks:
            return ResetPoint(0, (), (), (), (), is_beginning=True)
        task = self._first_guess()
        while (earlier := self._earlier(task)) < task:
            task = earlier
        after = [step for step in self._steps.values() if step.task >= task]
        runs = {step.run.workflow_id: step.run for step in after if step.run is not None and step.run.run_id}
        known = (AGENT_WORKFLOW, MAP_NODE)
        kept = {step.run.workflow_id for step in after if step.run is not None and step.name in known}
        redone = [step for step in after if step.is_good and not _is_kept(step)]
        cut = [step for step in self._steps.values() if step.is_once and (step.end >= task or not step.end)]
        return ResetPoint(
            task=task,
            runs=tuple(run for name, run in runs.items() if name in kept),
            open_runs=tuple(
                step.run for step in after if step.run is not None and step.run.run_id and not step.end
            ),
            repeats=tuple(step.run.workflow_id if step.run else step.name for step in redone),
            repeats_once=tuple(step.name for step in cut),
            is_beginning=task == self._tasks[0],
        )

    def _first_guess(self) -> int:
        """Return the task that asked for what the run failed for, else the last one before it was ended.

        Where the failure doesn't say what for, it is for the last step that failed, unless it is a defect.
        """
        culprit = _culprit(self._failure)
        if culprit in self._steps:
            return self._steps[culprit].task
        failed = [step for step in self._steps.values() if step.is_failed]
        if self._failure is not None and failed and self._failure.application_failure_info.type != "AgentBug":
            return max(failed, key=lambda step: step.end).task
        if self._cancelled_at:
            before = [task for task in self._tasks if task < self._cancelled_at]
            return before[-1] if before else self._tasks[0]
        return self._tasks[-1]

    def _earlier(self, task: int) -> int:
        """Return the first task that asked for a child which was open at `task`, as far as that is earlier."""
        open_then = [
            step.task
            for step in self._steps.values()
            if step.is_child and step.task < task and (not step.end or step.end > task)
        ]
        return min([task, *open_then])


def _is_kept(step: _Step) -> bool:
    return step.name in (AGENT_WORKFLOW, MAP_NODE, *_HARMLESS)


def _culprit(failure: Failure | None) -> int:
    """Return the event that asked for the step which a run failed for; 0 where the failure doesn't say."""
    while failure is not None:
        if failure.HasField("child_workflow_execution_failure_info"):
            return failure.child_workflow_execution_failure_info.initiated_event_id
        if failure.HasField("activity_failure_info"):
            return failure.activity_failure_info.scheduled_event_id
        failure = failure.cause if failure.HasField("cause") else None
    return 0
