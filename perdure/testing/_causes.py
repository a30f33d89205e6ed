"""What it means that a history doesn't replay: where, and the likely cause. Pure; client side."""

import re
from collections.abc import Sequence
from typing import NamedTuple

from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent

from perdure.errors import suggest
from perdure.testing._recorder import Step

_EVENT_ID = re.compile(r"\b(?:event_)?id: (\d+)")
_MESSAGE = re.compile(r'message: "((?:[^"\\]|\\.)*)"')
_MACHINE = re.compile(r"(\w[\w ]*) machine does not handle")
_PREFIX = "[TMPRL1100] Nondeterminism error: "
_PATCH = 'Keep the old way for open runs: `if workflow.patched("…"): new; else: old`.'
_LONGEST = 300


class Cause(NamedTuple):
    """Where a history departs from the code, and why."""

    event_id: int | None
    event: str
    text: str


def read_message(failure: BaseException) -> str:
    """Return the core's own message out of what it wraps that in."""
    text = str(failure)
    found = _MESSAGE.search(text)
    message = found[1].replace('\\"', '"').replace("\\'", "'") if found else text
    return message.removeprefix(_PREFIX)


def unknown_workflow(name: str, known: Sequence[str]) -> Cause:
    """Return the cause where no workflow of the app has the name that the history has."""
    hint = suggest(name, known)
    text = (
        f"The app has no workflow {name!r}: it was renamed or removed.{hint} Register it under its old name too, "
        "until its runs are over."
    )
    return Cause(1, "WorkflowExecutionStarted", text)


def find_cause(message: str, events: Sequence[HistoryEvent], asked: Sequence[Step]) -> Cause:
    """Return where the history and the code part.

    Args:
        message: The core's.
        events: The history.
        asked: What the code asked for, in order, up to there.
    """
    recorded = [(event, step) for event in events if (step := recorded_step(event)) is not None]
    index = next((i for i, (_, step) in enumerate(recorded) if i >= len(asked) or asked[i] != step), len(recorded))
    told = _EVENT_ID.search(message)
    event = _event(events, int(told[1])) if told else None
    if event is None and index < len(recorded):
        event = recorded[index][0]
    now = asked[index] if index < len(asked) else None
    was = recorded_step(event) if event is not None else None
    text = _explain(message, was=was, now=now, later=[step for _, step in recorded[index + 1 :]], event=event)
    return Cause(event.event_id if event else None, _type_of(event), f"{text} {_PATCH}")


def recorded_step(event: HistoryEvent) -> Step | None:
    """Return what code asked for that this event records; None for another event."""
    if event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED:
        return Step("activity", event.activity_task_scheduled_event_attributes.activity_type.name)
    if event.event_type == EventType.EVENT_TYPE_START_CHILD_WORKFLOW_EXECUTION_INITIATED:
        child = event.start_child_workflow_execution_initiated_event_attributes
        return Step("child workflow", child.workflow_type.name)
    return None


def _explain(
    message: str, *, was: Step | None, now: Step | None, later: Sequence[Step], event: HistoryEvent | None
) -> str:
    then = str(was) if was is not None else f"the event {_type_of(event)}"
    if was is not None and now is not None and was != now:
        return _explain_steps(was, now, later)
    if was is not None:
        return f"The code doesn't ask for {was} here any more{_instead(message)}: it was removed, or comes later."
    if now is not None:
        return f"The code asks for {now} here, where the history has {then}: it was added, or comes earlier."
    return (
        f"The history has {then} here, and the code does something else{_instead(message)}. ({message[:_LONGEST]})"
    )


def _explain_steps(was: Step, now: Step, later: Sequence[Step]) -> str:
    start = f"The code asks for {now} here, where the history has {was}: "
    if now not in later:
        return start + f"{now} was added, or took the place of the other."
    if later[0] == now:
        return start + f"{was} was removed, or the two changed places."
    return start + "their order changed."


def _instead(message: str) -> str:
    """Return what the code does in place of an event, as far as the core tells."""
    found = _MACHINE.search(message)
    if found is None:
        return ""
    words = {"Complete workflow": "it completes", "Fail workflow": "it fails", "Timer": "it starts a timer"}
    return f" ({words.get(found[1], found[1].lower())})"


def _event(events: Sequence[HistoryEvent], event_id: int) -> HistoryEvent | None:
    return next((event for event in events if event.event_id == event_id), None)


def _type_of(event: HistoryEvent | None) -> str:
    if event is None:
        return ""
    name = EventType.Name(event.event_type).removeprefix("EVENT_TYPE_")
    return "".join(word.capitalize() for word in name.split("_"))
