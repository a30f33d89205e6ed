"""A run as Event History tells it: over all runs of its chain, with sizes and times by turn."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import Client

_MODEL_CALLS = ("perdure.call_model", "bench.naive_model")
_COPY = "perdure.copy_conversation"


@dataclass
class OneRun:
    """One run of a chain."""

    run_id: str
    events: int = 0
    size: int = 0
    carried: int = 0
    """Bytes of history that hold the conversation of the run before."""


@dataclass
class Chain:
    """All runs of a chain.

    Attributes:
        turn_bytes: History that each turn added, from its model call to the next.
        turn_starts: When each model call was scheduled.
    """

    runs: list[OneRun] = field(default_factory=list[OneRun])
    turn_bytes: list[int] = field(default_factory=list[int])
    turn_starts: list[datetime] = field(default_factory=list[datetime])
    started: datetime | None = None
    closed: datetime | None = None

    @property
    def size(self) -> int:
        """Bytes of history of all runs."""
        return sum(run.size for run in self.runs)

    def seconds(self, first_turn: int, turns: int) -> float:
        """Return how long some consecutive turns took."""
        return (self.turn_starts[first_turn + turns] - self.turn_starts[first_turn]).total_seconds()

    def total_seconds(self) -> float:
        """Return how long all of it took."""
        assert self.started is not None
        assert self.closed is not None
        return (self.closed - self.started).total_seconds()


async def read_chain(client: Client, workflow_id: str, run_id: str) -> Chain:
    """Read a run that is closed, and those that continue it."""
    chain = Chain()
    following = run_id
    while following:
        run = OneRun(following)
        chain.runs.append(run)
        handle = client.get_workflow_handle(workflow_id, run_id=following)
        following = await _read_run(chain, run, handle.fetch_history_events())
    return chain


async def _read_run(chain: Chain, run: OneRun, events: AsyncIterator[HistoryEvent]) -> str:
    copies: set[int] = set()
    following = ""
    is_carrying = True
    async for event in events:
        size = event.ByteSize()
        run.events += 1
        run.size += size
        when = event.event_time.ToDatetime(tzinfo=UTC)
        chain.started = chain.started or when
        chain.closed = when
        match event.event_type:
            case EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED:
                name = event.activity_task_scheduled_event_attributes.activity_type.name
                if name in _MODEL_CALLS:
                    is_carrying = False
                    chain.turn_starts.append(when)
                    chain.turn_bytes.append(0)
                elif name == _COPY:
                    copies.add(event.event_id)
            case EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED:
                if event.activity_task_completed_event_attributes.scheduled_event_id in copies:
                    run.carried += size
            case EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CONTINUED_AS_NEW:
                following = event.workflow_execution_continued_as_new_event_attributes.new_execution_run_id
            case _:
                pass
        if chain.turn_bytes and not is_carrying:
            chain.turn_bytes[-1] += size
    return following
