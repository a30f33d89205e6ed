"""Reads the steps of one run from its events. Client side; what can't be decoded is shown without its content."""

from typing import Any

from temporalio.api.history.v1 import HistoryEvent
from temporalio.api.workflow.v1 import PendingActivityInfo
from temporalio.converter import DataConverter

from perdure.client._children import time_of
from perdure.client._timeline import calls, events
from perdure.client._timeline.book import why
from perdure.client._timeline.data import Step
from perdure.client._timeline.reading import Reading
from perdure.client._timeline.turns import assembled

_HANDLERS = {**calls.HANDLERS, **events.HANDLERS}


class TimelineReader(Reading):
    """Takes in the events of one run, in order.

    Attributes:
        run_id: The run.
    """

    def __init__(self, converter: DataConverter, *, run_id: str = "") -> None:
        """Start with nothing read."""
        super().__init__(converter)
        self.run_id = run_id

    async def read(self, event: HistoryEvent) -> None:
        """Take an event in."""
        self.event_count += 1
        self.latest_at = time_of(event.event_time)
        held: Any = None
        try:
            await self.reader.read(event)
            held = self.reader.latest
        except Exception:  # written by a version to come, or with a codec that isn't here
            self.unread += 1
        handler = _HANDLERS.get(event.event_type)
        if handler is not None:
            await handler(self, event, held)

    def note_pending(self, info: PendingActivityInfo) -> None:
        """Enter what history doesn't tell of an open activity: its attempts, and why they failed."""
        begun_by = self.activities.get(info.activity_id)
        step = self.book.steps.get(begun_by or 0)
        if begun_by is None or step is None or step.ended_at is not None:
            return
        is_tried = info.HasField("last_started_time")
        self.book.change(
            begun_by,
            attempts=max(info.attempt, 1),
            tried_at=time_of(info.last_started_time) if is_tried else None,
            failure=why(info.last_failure) if info.HasField("last_failure") else "",
            worker=info.last_worker_identity,
        )

    def steps(self) -> tuple[Step, ...]:
        """Return what the run did, in order."""
        if self.closing is not None:
            for event_id, step in list(self.book.steps.items()):
                if step.outcome == "open":
                    self.book.change(event_id, outcome="cut")
        request = self.reader.run.request
        carried = None if request is None else request.carried
        before = 0 if carried is None else carried.counters.turns
        return assembled(self.book, before=before, is_agent=request is not None)
