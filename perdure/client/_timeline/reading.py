"""What is known of one run while its events are read. Client side."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from temporalio.api.common.v1 import Payload
from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent
from temporalio.converter import DataConverter

from perdure.client._timeline.book import StepBook
from perdure.contracts.plan import Plan, PlanAmendment
from perdure.history import RunReader


class Reading:
    """One run, as far as it was read.

    Attributes:
        reader: What was read of its conversations.
        book: Its steps.
        started: The first event; None before it came.
        closing: The last event, where that ends the run.
        summary: What the run's starter said that it is about.
        event_count: How many events there were.
        unread: Events whose content could not be decoded.
        open_wait: The event since which the run waits; 0 while it doesn't.
        latest_at: Time of the latest event.
        activities: The steps of activities, by Temporal's id of each.
        plan: The plan that it executes, as far as history tells; of several, the first.
        planners: The steps of child runs that write plans.
        amendments: Changes to the plan that were asked for, by the update's step.
    """

    def __init__(self, converter: DataConverter) -> None:
        """Start with nothing read."""
        self.reader = RunReader(converter)
        self.book = StepBook()
        self.started: HistoryEvent | None = None
        self.closing: HistoryEvent | None = None
        self.summary = ""
        self.event_count: int = 0
        self.unread = 0
        self.open_wait = 0
        self.latest_at = datetime.min.replace(tzinfo=UTC)
        self.activities: dict[str, int] = {}
        self.plan: Plan | None = None
        self.planners: set[int] = set()
        self.amendments: dict[int, PlanAmendment] = {}
        self._converter = converter

    @property
    def workflow_id(self) -> str:
        """The run's workflow id; empty before its first event."""
        return self.started.workflow_execution_started_event_attributes.workflow_id if self.started else ""

    async def decode(self, payloads: Sequence[Payload], kind: type[Any]) -> Any:
        """Return the first of these payloads; None where there is none, or it can't be decoded."""
        if not payloads:
            return None
        try:
            return (await self._converter.decode(list(payloads)[:1], [kind]))[0]
        except Exception:  # written by a version to come, or with a codec that isn't here
            self.unread += 1
            return None

    async def label(self, event: HistoryEvent) -> str:
        """Return the summary that the web UI shows with an event."""
        if not event.HasField("user_metadata") or not event.user_metadata.HasField("summary"):
            return ""
        return str(await self.decode([event.user_metadata.summary], str) or "")

    def attribute(self, payload: Payload) -> str:
        """Return a search attribute; the server reads these itself, so that no codec has touched them."""
        return str(self._converter.payload_converter.from_payload(payload))


def ends(prefix: str, words: Sequence[str]) -> dict[int, tuple[str, str]]:
    """Return the protocol's word and our outcome for each event that ends something."""
    return {
        EventType.Value(f"EVENT_TYPE_{prefix}_{word.upper()}"): (word, "ok" if word == "completed" else word)
        for word in words
    }
