"""What there is to say about a schedule. Client side; reads what Temporal tells."""

from datetime import datetime, timedelta
from typing import Any, cast

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError
from temporalio.client import (
    ScheduleActionExecutionStartWorkflow,
    ScheduleActionResult,
    ScheduleActionStartWorkflow,
    ScheduleCalendarSpec,
    ScheduleDescription,
    ScheduleListActionStartWorkflow,
    ScheduleListDescription,
    ScheduleSpec,
)

from perdure.contracts._base import Contract

MEMO = "perdure.schedule"
_MAX_TIMES = 10


class ScheduleMemo(Contract):
    """What the schedule was created with, in the words of whoever did; the server turns cron into calendars."""

    agent: str = ""
    cron: tuple[str, ...] = ()
    every_seconds: float | None = None


class ScheduledRun(BaseModel):
    """A run that a schedule started."""

    model_config = ConfigDict(frozen=True)

    workflow_id: str
    due_at: datetime
    started_at: datetime


class ScheduleInfo(BaseModel):
    """A schedule as the server lists it."""

    model_config = ConfigDict(frozen=True)

    name: str
    workflow: str
    """Workflow type; `AgentWorkflow` for an agent's runs."""
    agent: str = ""
    """Empty for a workflow of the user's own, and where somebody else made the schedule."""
    when: tuple[str, ...] = ()
    """Cron expressions and periods, in words."""
    time_zone: str = "UTC"
    is_paused: bool = False
    note: str = ""
    next: tuple[datetime, ...] = ()
    """The next times; none while it is paused, where the server tells none."""
    recent: tuple[ScheduledRun, ...] = ()
    """The latest runs, the oldest first."""


class ScheduleDetails(ScheduleInfo):
    """A schedule in detail."""

    overlap: str
    jitter_seconds: float = 0
    catch_up_seconds: float = 0
    task_queue: str = ""
    tenant: str = ""
    input: JsonValue = None
    """What its runs are started with; None where it can't be read."""
    started: int = 0
    missed: int = 0
    """Runs that were due while the server was down for longer than the catch-up window."""
    skipped: int = 0
    """Runs that were due while the one before was open, and the policy was against it."""
    running: tuple[str, ...] = ()
    """Workflow ids of the runs that are open."""


async def info_of(entry: ScheduleListDescription) -> ScheduleInfo:
    """Read an entry of the server's list."""
    memo = _memo(await entry.memo())
    schedule = entry.schedule
    action = None if schedule is None else schedule.action
    return ScheduleInfo(
        name=entry.id,
        workflow=action.workflow if isinstance(action, ScheduleListActionStartWorkflow) else "",
        agent=memo.agent,
        when=_when(memo, None if schedule is None else schedule.spec),
        time_zone=_time_zone(None if schedule is None else schedule.spec),
        is_paused=schedule is not None and schedule.state.paused,
        note="" if schedule is None else schedule.state.note or "",
        next=() if entry.info is None else tuple(entry.info.next_action_times[:_MAX_TIMES]),
        recent=() if entry.info is None else _runs(entry.info.recent_actions),
    )


async def details_of(described: ScheduleDescription) -> ScheduleDetails:
    """Read a description."""
    memo = _memo(await described.memo())
    schedule, info = described.schedule, described.info
    action: Any = schedule.action
    is_start = isinstance(action, ScheduleActionStartWorkflow)
    request: Any = await _input(described, action) if is_start else None
    values = cast("dict[str, Any]", request) if isinstance(request, dict) else dict[str, Any]()
    running = [each for each in info.running_actions if isinstance(each, ScheduleActionExecutionStartWorkflow)]
    return ScheduleDetails(
        name=described.id,
        workflow=action.workflow if is_start else "",
        agent=memo.agent,
        when=_when(memo, schedule.spec),
        time_zone=_time_zone(schedule.spec),
        is_paused=schedule.state.paused,
        note=schedule.state.note or "",
        next=tuple(info.next_action_times[:_MAX_TIMES]),
        recent=_runs(info.recent_actions),
        overlap=schedule.policy.overlap.name.lower(),
        jitter_seconds=(schedule.spec.jitter or timedelta()).total_seconds(),
        catch_up_seconds=(schedule.policy.catchup_window or timedelta()).total_seconds(),
        task_queue=action.task_queue if is_start else "",
        tenant=str(values.get("tenant", "")) if memo.agent else "",
        input=_said(values) if memo.agent else cast("JsonValue", request),
        started=info.num_actions,
        missed=info.num_actions_missed_catchup_window,
        skipped=info.num_actions_skipped_overlap,
        running=tuple(each.workflow_id for each in running),
    )


async def _input(described: ScheduleDescription, action: ScheduleActionStartWorkflow) -> Any:
    payloads: list[Any] = list(action.args)
    if not payloads:
        return None
    try:
        values = await described.data_converter.decode(payloads)
    except Exception:  # whoever made it may have had another converter
        return None
    return values[0] if len(values) == 1 else values


def _said(request: dict[str, Any]) -> JsonValue:
    parts: list[Any] = request.get("input") or []
    texts = [part.get("text", "") for part in parts if part.get("kind") == "text"]
    return "".join(texts) if len(texts) == len(parts) else parts


def _memo(memo: Any) -> ScheduleMemo:
    try:
        return ScheduleMemo.model_validate(memo.get(MEMO) or {})
    except ValidationError:
        return ScheduleMemo()


def _when(memo: ScheduleMemo, spec: ScheduleSpec | None) -> tuple[str, ...]:
    told = list(memo.cron)
    if memo.every_seconds is not None:
        told.append(f"every {_period(timedelta(seconds=memo.every_seconds))}")
    if told or spec is None:
        return tuple(told)
    told += [_calendar(each) for each in spec.calendars]
    told += [f"every {_period(each.every)}" for each in spec.intervals]
    return tuple(told)


def _calendar(calendar: ScheduleCalendarSpec) -> str:
    return calendar.comment or "by calendar"


def _period(period: timedelta) -> str:
    seconds = period.total_seconds()
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= length and seconds % length == 0:
            return f"{seconds / length:g}{unit}"
    return f"{seconds:g}s"


def _time_zone(spec: ScheduleSpec | None) -> str:
    return (None if spec is None else spec.time_zone_name) or "UTC"


def _runs(results: Any) -> tuple[ScheduledRun, ...]:
    found: list[ScheduledRun] = []
    for result in results:
        assert isinstance(result, ScheduleActionResult)
        if isinstance(result.action, ScheduleActionExecutionStartWorkflow):
            found.append(
                ScheduledRun(
                    workflow_id=result.action.workflow_id,
                    due_at=result.scheduled_at,
                    started_at=result.started_at,
                )
            )
    return tuple(found)
