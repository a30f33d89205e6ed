"""Reads a run with the chain that it is part of, and the runs below it. Client side; bounded, several at once."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from temporalio.api.enums.v1 import EventType
from temporalio.client import Client
from temporalio.service import RPCError

from perdure.client._children import time_of
from perdure.client._runs import describe, not_found, to_info
from perdure.client._timeline.book import why
from perdure.client._timeline.data import ChainLink, Step, Timeline
from perdure.client._timeline.reader import TimelineReader
from perdure.client._timeline.turns import in_order
from perdure.client._tree import SHOWN_BELOW, SHOWN_CHILDREN, most_telling
from perdure.contracts.run import Counters
from perdure.errors import RunNotFoundError
from perdure.history import RecordedRun

_AT_ONCE: Final = 16
_MOST_LINKS: Final = 200
"""Runs of one chain; those before are left out."""
_PAGE: Final = 1000
_ENDS = {"completed": "ok", "continued_as_new": "continued"}


@dataclass(frozen=True)
class Reach:
    """How much below a run is read.

    Attributes:
        depth: Levels of child runs that are read.
        first: Child runs of the run itself that are read, those in trouble or at work before the others.
        below: Of each run below it.
        most: Runs in all.
    """

    depth: int = 2
    first: int = SHOWN_CHILDREN
    below: int = SHOWN_BELOW
    most: int = 200

    @classmethod
    def everything(cls, depth: int) -> "Reach":
        """Return one that leaves nothing out, to that depth, up to 10,000 runs."""
        return cls(depth=depth, first=10_000, below=10_000, most=10_000)


@dataclass(frozen=True)
class ReadRun:
    """A run as it was read.

    Attributes:
        timeline: What it did.
        records: The conversations of each run of its chain, in order.
        below: The child runs that were read, by workflow id.
    """

    timeline: Timeline
    records: tuple[RecordedRun, ...]
    below: "dict[str, ReadRun]"


async def read_timeline(client: Client, workflow_id: str, *, reach: Reach, run_id: str = "") -> ReadRun:
    """Read what a run did, and the runs below it.

    Raises:
        RunNotFoundError: There is no such run, or its time of retention is over. Not retryable.
    """
    described = await describe(client, workflow_id, run_id)
    info = to_info(described.workflow_execution_info, client)
    return await _Collector(client, reach).collect(info.workflow_id, info.run_id, level=0)


class _Collector:
    """Reads runs, a few at once, until it has read enough."""

    def __init__(self, client: Client, reach: Reach) -> None:
        self._client = client
        self._reach = reach
        self._left = reach.most
        self._gate = asyncio.Semaphore(_AT_ONCE)

    async def collect(self, workflow_id: str, run_id: str, *, level: int) -> ReadRun:
        """Read a run's chain, then the runs below it."""
        chain = await self._chain(workflow_id, run_id)
        timeline = make_timeline(workflow_id, chain)
        below: dict[str, ReadRun] = {}
        if level < self._reach.depth:
            below = await self._below(timeline.steps, level)
        if below:
            grown = {name: run.timeline for name, run in below.items()}
            timeline = timeline.model_copy(update={"steps": tuple(_grown(step, grown) for step in timeline.steps)})
        return ReadRun(timeline, tuple(each.reader.run for each in chain), below)

    async def _below(self, steps: Iterable[Step], level: int) -> dict[str, ReadRun]:
        limit = self._reach.below if level else self._reach.first
        chosen = _choose([step for step in children_of(steps) if step.run_id], min(limit, self._left))
        self._left -= len(chosen)
        read = await asyncio.gather(*(self._child(step, level + 1) for step in chosen))
        return {step.workflow_id: run for step, run in zip(chosen, read, strict=True) if run is not None}

    async def _child(self, step: Step, level: int) -> ReadRun | None:
        with suppress(RunNotFoundError):  # its retention may end before its parent's
            return await self.collect(step.workflow_id, step.run_id, level=level)
        return None

    async def _chain(self, workflow_id: str, run_id: str) -> list[TimelineReader]:
        """Return the runs of a chain in order, found from one of them."""
        middle = await self._read(workflow_id, run_id)
        chain = [middle]
        while len(chain) < _MOST_LINKS and (after := chain[-1].reader.next_run_id):
            chain.append(await self._read(workflow_id, after))
        while len(chain) < _MOST_LINKS and (before := _predecessor(chain[0])):
            try:
                chain.insert(0, await self._read(workflow_id, before))
            except RunNotFoundError:
                break
        return chain

    async def _read(self, workflow_id: str, run_id: str) -> TimelineReader:
        reader = TimelineReader(self._client.data_converter, run_id=run_id)
        handle = self._client.get_workflow_handle(workflow_id, run_id=run_id)
        async with self._gate:
            try:
                async for event in handle.fetch_history_events(page_size=_PAGE, skip_archival=True):
                    await reader.read(event)
            except RPCError as error:
                raise not_found(error, workflow_id) from None
            if reader.closing is None:
                await self._note_pending(reader, workflow_id, run_id)
        return reader

    async def _note_pending(self, reader: TimelineReader, workflow_id: str, run_id: str) -> None:
        with suppress(RunNotFoundError):
            described = await describe(self._client, workflow_id, run_id)
            for pending in described.pending_activities:
                reader.note_pending(pending)


def _predecessor(reader: TimelineReader) -> str:
    """Return the run that this one goes on from, after Continue-As-New or because it was started again."""
    started = reader.started
    before = (
        "" if started is None else started.workflow_execution_started_event_attributes.continued_execution_run_id
    )
    carried = reader.reader.run.request.carried if reader.reader.run.request is not None else None
    return before or ("" if carried is None or carried.fork is not None else carried.from_run_id)


def make_timeline(workflow_id: str, chain: Sequence[TimelineReader]) -> Timeline:
    """Return what the runs of a chain did, in order, without what child runs did."""
    first, last = chain[0], chain[-1]
    assert first.started is not None
    assert last.started is not None
    attributes = last.started.workflow_execution_started_event_attributes
    links = tuple(_link(reader) for reader in chain)
    request = first.reader.run.request
    return Timeline(
        workflow_id=workflow_id,
        run_id=links[-1].run_id,
        workflow=attributes.workflow_type.name,
        agent="" if request is None else request.agent,
        status=_status(last),
        summary=first.summary,
        task_queue=attributes.task_queue.name,
        started_at=links[0].started_at,
        closed_at=links[-1].closed_at,
        failure=_failure(last),
        links=links,
        before=_before(first),
        steps=in_order(step for reader in chain for step in (*reader.steps(), *_seam(reader, chain))),
        plan=next((reader.plan for reader in chain if reader.plan is not None), None),
        unread=sum(reader.unread for reader in chain),
        read_at=datetime.now(UTC),
    )


def _link(reader: TimelineReader) -> ChainLink:
    assert reader.started is not None
    ended = reader.closing
    return ChainLink(
        run_id=reader.run_id,
        started_at=time_of(reader.started.event_time),
        closed_at=None if ended is None else time_of(ended.event_time),
        events=reader.event_count,
        outcome="open" if ended is None else _ENDS.get(_status(reader), _status(reader)),
    )


def _status(reader: TimelineReader) -> str:
    """Return the status that Temporal gives a run that ended so."""
    if reader.closing is None:
        return "running"
    return EventType.Name(reader.closing.event_type).removeprefix("EVENT_TYPE_WORKFLOW_EXECUTION_").lower()


def _failure(reader: TimelineReader) -> str:
    if reader.closing is None:
        return ""
    failed = reader.closing.workflow_execution_failed_event_attributes
    terminated = reader.closing.workflow_execution_terminated_event_attributes
    return why(failed.failure) if failed.HasField("failure") else terminated.reason


def _before(first: TimelineReader) -> Counters | None:
    """Return what runs before the first that is known had used, where there were any."""
    request = first.reader.run.request
    return request.carried.counters if request is not None and request.carried is not None else None


def _seam(reader: TimelineReader, chain: Sequence[TimelineReader]) -> Iterable[Step]:
    """Yield the step with which another run goes on after this one."""
    position = chain.index(reader)
    if position + 1 == len(chain) or reader.closing is None:
        return
    is_continued = _status(reader) == "continued_as_new"
    after = chain[position + 1]
    assert after.started is not None
    at = time_of((reader.closing if is_continued else after.started).event_time)
    yield Step(
        kind="continued" if is_continued else "rerun",
        name="continued as new" if is_continued else "started again",
        label=f"after {reader.event_count:,} events",
        started_at=at,
        ended_at=at,
        outcome="ok",
        event_id=reader.closing.event_id,
        run_id=after.run_id,
    )


def children_of(steps: Iterable[Step]) -> Iterable[Step]:
    """Yield the child runs among steps, those inside of turns too."""
    for step in steps:
        if step.kind == "child":
            yield step
        yield from children_of(step.steps)


def _choose(children: Sequence[Step], limit: int) -> list[Step]:
    return [children[index] for index in most_telling([child.outcome for child in children], limit)]


def _grown(step: Step, below: Mapping[str, Timeline]) -> Step:
    """Return a step with what the child runs in it did."""
    if step.steps:
        return step.model_copy(update={"steps": tuple(_grown(each, below) for each in step.steps)})
    found = below.get(step.workflow_id) if step.kind == "child" else None
    return step if found is None else step.model_copy(update={"below": found})
