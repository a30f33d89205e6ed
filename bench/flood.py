"""Part `flood`: 5,000 messages to one session within a minute: kept in order, histories bounded, it answers."""

import asyncio
import time
from datetime import timedelta
from statistics import quantiles

from bench.report import Report
from bench.stack import Stack
from perdure.client import PerdureClient
from perdure.contracts.run import RunStatus
from perdure.contracts.steering import MAX_SENDS, Session
from perdure.errors import InboxFullError

_MODEL = "bench-T0-D200"
_SENDERS = 8
_MOST_SECONDS = 60.0
_MOST_EVENTS = 15_000


class Flood:
    """Sends numbered messages from several senders at once; each waits for its message to be taken.

    Attributes:
        seconds: How long each message took to be taken, refusals included.
        refused: How often the run had no room.
    """

    def __init__(self, client: PerdureClient, workflow_id: str) -> None:
        """Send to this run."""
        self.seconds: list[float] = []
        self.refused = 0
        self._client = client
        self._id = workflow_id

    async def send(self, count: int, senders: int = _SENDERS) -> None:
        """Send `count` messages: `S.N` is the N-th of sender S."""
        await asyncio.gather(*(self._send(sender, count // senders) for sender in range(senders)))

    async def _send(self, sender: int, count: int) -> None:
        for number in range(count):
            began = time.monotonic()
            while True:
                try:
                    await self._client.send(self._id, f"{sender}.{number}")
                    break
                except InboxFullError:
                    self.refused += 1
                    await asyncio.sleep(0.1)
            self.seconds.append(time.monotonic() - began)


async def until_idle(client: PerdureClient, workflow_id: str, *, read: int) -> None:
    """Wait until a session has answered so many messages."""
    while True:
        status = RunStatus.model_validate(await client.query(workflow_id, "perdure.status"))
        if status.state == "idle" and status.received == read:
            return
        await asyncio.sleep(0.1)


def in_order(texts: list[str], senders: int = _SENDERS) -> bool:
    """Say whether every sender's messages are there once, in the order in which it sent them."""
    numbers = [[int(text.split(".")[1]) for text in texts if text.startswith(f"{n}.")] for n in range(senders)]
    return all(each == list(range(len(each))) for each in numbers)


async def histories(client: PerdureClient, workflow_id: str, first_run_id: str) -> list[int]:
    """Return the number of events of each run of a chain."""
    lengths, run_id = list[int](), first_run_id
    while run_id:
        handle = client.temporal.get_workflow_handle(workflow_id, run_id=run_id)
        events = (await handle.fetch_history()).events
        lengths.append(len(events))
        run_id = events[-1].workflow_execution_continued_as_new_event_attributes.new_execution_run_id
    return lengths


async def measure_flood(stack: Stack, *, is_quick: bool) -> Report:
    """Flood one session while its agent answers."""
    report = Report("flood")
    count = 1_600 if is_quick else 5_000
    await stack.start_worker("perdure", "flood", [_MODEL])
    client = stack.client("flood")
    started = await client.start_agent(_MODEL, "go", session=Session(idle_timeout=timedelta(hours=1)))
    flood = Flood(client, started.workflow_id)
    began = time.monotonic()
    await flood.send(count)
    took = time.monotonic() - began
    await until_idle(client, started.workflow_id, read=count)
    entries = await client.transcript(started.workflow_id)
    texts = [each.message.text for each in entries if each.message.role == "user" and "." in each.message.text]
    lengths = await histories(client, started.workflow_id, started.run_id)
    p95 = quantiles(flood.seconds, n=20, method="inclusive")[-1]
    report.figures |= {"seconds": took, "refused": flood.refused, "p95_seconds": p95, "events": lengths}
    report.target(f"{count} messages taken in {took:.0f} s", is_met=is_quick or took <= _MOST_SECONDS)
    report.target(f"{len(texts)} in the conversation, in order", is_met=len(texts) == count and in_order(texts))
    report.target(
        f"{len(lengths)} runs of at most {max(lengths):,} events (a new one after {MAX_SENDS:,} messages)",
        is_met=max(lengths) <= _MOST_EVENTS,
    )
    report.target(f"a message was taken within {p95:.2f} s (p95), {flood.refused} refusals", is_met=p95 < 2)
    report.print_targets()
    return report
