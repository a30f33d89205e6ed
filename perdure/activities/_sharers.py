"""Among how many workers a vendor's limits are shared: those that poll the Task Queue of the calls. Activity side.

The server is asked now and then, beside the calls, and only while a limit is known or may be.
"""

import asyncio
import time
from contextlib import suppress
from typing import Final

from temporalio import activity
from temporalio.client import Client
from temporalio.service import RPCError

from perdure._task_queues import ACTIVITY_TASKS, pollers
from perdure.providers._gate import Gates

_EVERY_SECONDS: Final = 5.0


class Sharers:
    """Tells the gates of a worker how many others there are."""

    def __init__(self, gates: Gates) -> None:
        """Know of no others yet."""
        self._gates = gates
        self._next: dict[str, float] = {}
        self._asking: set[asyncio.Task[None]] = set()

    def look(self, provider: str) -> None:
        """Count the workers again, where it is time; from within an activity that calls the provider."""
        if not self._gates.needs_share(provider) or time.monotonic() < self._next.get(provider, 0.0):
            return
        self._next[provider] = time.monotonic() + _EVERY_SECONDS
        with suppress(RuntimeError):  # an activity that a test runs has no client
            asking = asyncio.create_task(self._count(provider, activity.client(), activity.info().task_queue))
            self._asking.add(asking)
            asking.add_done_callback(self._asking.discard)

    async def aclose(self) -> None:
        """Ask no more."""
        for asking in list(self._asking):
            asking.cancel()
        await asyncio.gather(*self._asking, return_exceptions=True)

    async def _count(self, provider: str, client: Client, task_queue: str) -> None:
        with suppress(RPCError):
            self._gates.share(provider, len(await pollers(client, task_queue, ACTIVITY_TASKS)))
