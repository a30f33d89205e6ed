"""The steps of one run, as its events begin, change and end them. Client side; pure."""

from typing import Any

from temporalio.api.enums.v1 import TimeoutType
from temporalio.api.failure.v1 import Failure
from temporalio.api.history.v1 import HistoryEvent

from perdure.client._children import reason_of, time_of
from perdure.client._timeline.data import Step

TurnKey = tuple[str, int, int]
"""Conversation, epoch, and the slot of the model's message."""
_MOST_CHARS = 2000


class StepBook:
    """Steps by the event that began them.

    Attributes:
        steps: In the order of their events.
        turns: The turn that a step belongs to, where it does.
    """

    def __init__(self) -> None:
        """Start with no steps."""
        self.steps: dict[int, Step] = {}
        self.turns: dict[int, TurnKey] = {}
        self._by_slot: dict[TurnKey, int] = {}
        self._replies: dict[tuple[str, int], list[int]] = {}
        self._extra = 0

    def begin(self, event: HistoryEvent, kind: str, name: str, **facts: Any) -> None:
        """Enter a step that an event begins."""
        known: dict[str, Any] = {"started_at": time_of(event.event_time), **facts}
        self.steps[event.event_id] = Step(kind=kind, name=name, event_id=event.event_id, **known)

    def mark(self, event: HistoryEvent, kind: str, name: str, **facts: Any) -> None:
        """Enter a step that is over with its event."""
        self.begin(event, kind, name, **{"outcome": "ok", "ended_at": time_of(event.event_time), **facts})

    def change(self, begun_by: int, **facts: Any) -> None:
        """Change a step, if it is known."""
        if begun_by in self.steps:
            self.steps[begun_by] = self.steps[begun_by].model_copy(update=facts)

    def end(self, begun_by: int, event: HistoryEvent, **facts: Any) -> None:
        """Enter the end of a step, if it is known."""
        self.change(begun_by, ended_at=time_of(event.event_time), **facts)

    def ask(self, begun_by: int, turn: TurnKey) -> None:
        """Note that a step belongs to the turn whose reply fills that slot."""
        self.turns[begun_by] = turn
        replies = self._replies.setdefault(turn[:2], [])
        if not replies or replies[-1] < turn[2]:
            replies.append(turn[2])

    def answer(self, begun_by: int, fills: TurnKey, *, asked_by: int | None = None) -> None:
        """Note which slot a step fills, and its turn: of the reply that asked for it, else of the last before."""
        conversation, epoch, slot = fills
        self._by_slot[fills] = begun_by
        if asked_by is None:
            replies = reversed(self._replies.get((conversation, epoch), []))
            asked_by = next((reply for reply in replies if reply < slot), None)
        if asked_by is not None:
            self.turns[begun_by] = (conversation, epoch, asked_by)

    def enter_result(
        self, event: HistoryEvent, name: str, *, label: str, outcome: str, fills: TurnKey, is_saved: bool
    ) -> None:
        """Enter what the workflow itself says of a tool call: one that it didn't make, or lost track of."""
        made = self._by_slot.get(fills)
        if made is not None:
            if self.steps[made].kind == "tool":
                self.change(made, outcome=outcome)
            return
        self._extra -= 1
        at = time_of(event.event_time)
        self.steps[self._extra] = Step(
            kind="tool",
            name=name,
            label=label,
            started_at=at,
            ended_at=at,
            outcome=outcome,
            event_id=event.event_id,
            slot=fills[2],
            is_saved=is_saved,
        )
        self.answer(self._extra, fills)


def outcome_of(failure: Failure) -> str:
    """Return how something ended that has this failure."""
    if failure.HasField("canceled_failure_info"):
        return "canceled"
    if failure.HasField("terminated_failure_info"):
        return "terminated"
    return "timed_out" if failure.HasField("timeout_failure_info") else "failed"


def why(failure: Failure) -> str:
    """Return the reason of a failure, in short: that of its innermost cause with a type of its own."""
    told = failure
    while told.HasField("cause") and not told.application_failure_info.type:
        told = told.cause
    if told.HasField("timeout_failure_info"):
        word = TimeoutType.Name(told.timeout_failure_info.timeout_type).removeprefix("TIMEOUT_TYPE_")
        return f"{word.lower().replace('_', ' ')} timeout"
    text = reason_of(told)
    return text if len(text) <= _MOST_CHARS else f"{text[:_MOST_CHARS]}…"
