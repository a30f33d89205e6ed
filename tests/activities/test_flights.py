"""Calls in flight: how long they and their replies are kept, and when they are stopped."""

import asyncio
from collections.abc import Callable

import pytest
from temporalio.activity import ActivityCancellationDetails
from temporalio.testing import ActivityEnvironment

from perdure.activities import _flights
from perdure.activities._flights import FlightKey, Flights
from perdure.contracts.messages import Message, TextPart
from perdure.contracts.usage import Usage
from perdure.providers.base import ModelReply

KEY = FlightKey("wf", "run", "1")
REPLY = ModelReply(message=Message(role="assistant", parts=(TextPart(text="hi"),)), usage=Usage())


class Calls:
    """Counts the calls; each takes `seconds`."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.begun = 0
        self.ended = 0

    async def start(self, on_text: Callable[[str], None]) -> ModelReply:
        self.begun += 1
        try:
            await asyncio.sleep(self.seconds)
        finally:
            self.ended += 1
        return REPLY


async def attempt(flights: Flights, calls: Calls) -> ModelReply:
    return await flights.reply(KEY, flights.board(KEY, calls.start))


async def given_up(flights: Flights, calls: Calls) -> None:
    """Run an attempt that Temporal gives up in mid-call."""
    environment = ActivityEnvironment()
    task = asyncio.create_task(environment.run(attempt, flights, calls))
    await asyncio.sleep(0.01)
    environment.cancel(cancellation_details=ActivityCancellationDetails(not_found=True))
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_call_that_nobody_joins_is_stopped_after_a_while() -> None:
    calls = Calls(10)
    await given_up(Flights(kept_seconds=0.05), calls)
    assert (calls.begun, calls.ended) == (1, 0)
    await asyncio.sleep(0.1)
    assert calls.ended == 1


async def test_a_reply_waits_for_the_next_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_flights, "_QUICK_SECONDS", 0)
    calls, flights = Calls(0.02), Flights(kept_seconds=5)
    await given_up(flights, calls)
    await asyncio.sleep(0.05)
    assert (await ActivityEnvironment().run(attempt, flights, calls)) is REPLY
    assert (calls.begun, calls.ended) == (1, 1)


async def test_a_quick_reply_is_not_kept() -> None:
    calls, flights = Calls(0), Flights(kept_seconds=5)
    for _ in range(2):
        await ActivityEnvironment().run(attempt, flights, calls)
    assert calls.begun == 2


async def test_closing_stops_what_nobody_waits_for() -> None:
    calls, flights = Calls(10), Flights(kept_seconds=5)
    await given_up(flights, calls)
    await flights.aclose()
    assert calls.ended == 1
