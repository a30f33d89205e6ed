"""Calls in flight, which outlive the attempt that made them. Activity side; one worker's memory, no record.

When a busy worker's heartbeats come too late, Temporal gives the call up for dead and starts the next attempt,
often on the same worker, where the request is still open and will be billed. That attempt joins the call in flight
instead of asking, and paying, again.
"""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from temporalio import activity

from perdure.providers.base import ModelReply

_KEPT_SECONDS: Final = 10.0
"""How long a call, or its reply, waits for the next attempt; that comes in less than one."""
_QUICK_SECONDS: Final = 1.0
"""The reply of a quicker call isn't kept: no heartbeat of it can have been missed."""


class FlightKey(NamedTuple):
    """Which activity of which run; the same for all of its attempts."""

    workflow_id: str
    run_id: str
    activity_id: str


@dataclass(eq=False)
class Flight:
    """A call, its text so far, and how many attempts wait for it."""

    call: "asyncio.Task[ModelReply]"
    began: float
    """By the clock of the event loop."""
    pieces: list[str] = field(default_factory=list[str])
    waiting: int = 0


class Flights:
    """The calls in flight of a worker."""

    def __init__(self, *, kept_seconds: float = _KEPT_SECONDS) -> None:
        """Start with none."""
        self._kept_seconds = kept_seconds
        self._flights: dict[FlightKey, Flight] = {}

    def board(
        self, key: FlightKey, start: Callable[[Callable[[str], None]], Coroutine[None, None, ModelReply]]
    ) -> Flight:
        """Return the call of an earlier attempt that is still in flight, or has just landed; else start one.

        Args:
            key: The activity.
            start: Makes the call; gives every piece of text to the function that it is given.
        """
        flight = self._flights.get(key)
        if flight is None:
            pieces: list[str] = []
            call = asyncio.create_task(start(pieces.append))
            flight = self._flights[key] = Flight(call, _now(), pieces)
            call.add_done_callback(lambda _: self._land(key, flight))
        return flight

    async def reply(self, key: FlightKey, flight: Flight) -> ModelReply:
        """Wait for the reply.

        An attempt that Temporal gave up leaves the call to the next one; any other cancellation stops the call.

        Raises:
            ModelCallError: The call failed.
        """
        flight.waiting += 1
        try:
            return await asyncio.shield(flight.call)
        except asyncio.CancelledError:
            if _is_given_up() and not flight.call.cancelled():
                self._keep(key, flight)
            else:
                await self._stop(key, flight)
            raise
        finally:
            flight.waiting -= 1

    async def aclose(self) -> None:
        """Stop every call that no attempt waits for any more."""
        for key, flight in list(self._flights.items()):
            await self._stop(key, flight)

    def _land(self, key: FlightKey, flight: Flight) -> None:
        """Keep a reply for a moment: Temporal may have given up the attempt that will return it."""
        is_failed = flight.call.cancelled() or flight.call.exception() is not None
        if is_failed or _now() < flight.began + _QUICK_SECONDS:
            self._drop(key, flight)
        else:
            self._later(key, flight)

    def _keep(self, key: FlightKey, flight: Flight) -> None:
        if not flight.call.done():
            self._later(key, flight)

    def _later(self, key: FlightKey, flight: Flight) -> None:
        asyncio.get_running_loop().call_later(self._kept_seconds, self._expire, key, flight)

    def _expire(self, key: FlightKey, flight: Flight) -> None:
        if flight.waiting == 0:
            self._drop(key, flight)
            flight.call.cancel()

    async def _stop(self, key: FlightKey, flight: Flight) -> None:
        self._drop(key, flight)
        flight.call.cancel()
        await asyncio.wait([flight.call])

    def _drop(self, key: FlightKey, flight: Flight) -> None:
        if self._flights.get(key) is flight:
            del self._flights[key]


def _now() -> float:
    return asyncio.get_running_loop().time()


def _is_given_up() -> bool:
    """Tell an attempt that Temporal no longer knows from a run that is cancelled or a worker that stops."""
    details = activity.cancellation_details()
    return details is not None and details.not_found and not details.cancel_requested
