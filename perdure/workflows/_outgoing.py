"""`Outgoing`: what is on its way to the server, of which one workflow task may hold so much. Workflow side.

A worker completes a workflow task by one message, with all of its commands and the results of local activities.
The server takes 4 MiB; when it is more, the run is terminated, and nothing can be caught. Each payload is bounded
where it is made; here their sum is. Nor does it take a task by which a run would have more than 2,000 activities,
or children, that are not over: that fails the task, for ever.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

from temporalio import workflow

_MAX_BYTES = 2_000_000
"""Half of it: what is counted may take more once it is encoded, and together with a task the server writes the
events that came meanwhile, up to 2 MB, in a transaction that has a limit of 4 MiB as well."""
_COMMAND_BYTES = 1_000
"""Of a command, beyond its payload: ids, headers, a summary."""
_FAILURE_BYTES = 4_000
_MAX_OPEN = 1_900
"""Of perdure's own, which leaves some for the user's."""
_PATCH = "perdure.outgoing"
"""Runs of before there was this held back a map's items and a plan's tasks alone, each in its own way."""
_PLAN_CHILDREN = 50
_ATTRIBUTE = "_perdure_outgoing"


@dataclass
class _Entry:
    seq: int
    size: int
    held: int | None
    """Bytes that were counted before there was the patch; None for what was not held back then."""
    is_blind: bool
    """Nothing tells that the server has it but that it has something later."""


class Outgoing:
    """Holds commands back while others are on their way."""

    def __init__(self) -> None:
        """Hold nothing back yet."""
        self._entries: dict[str, _Entry] = {}
        self._seq = 0
        self._keys = 0
        self._bytes = 0
        self._blind = 0
        self._held = 0
        self._next_task: asyncio.Task[None] | None = None
        self._children: set[str] = set()
        self._calls = 0

    async def reserve(self, child: str, size: int, *, held: int | None = None) -> None:
        """Wait until the start of a child may leave; give it at once then.

        Args:
            child: Its workflow id.
            size: Of its input.
            held: What was counted of it before there was the patch, where anything was.
        """
        await self._wait_for_room(size, lambda: len(self._children), held=held)
        self._children.add(child)
        self._add(child, size, held=held)

    def holds(self, child: str) -> bool:
        """Say whether there is room kept for a child."""
        return child in self._children

    def arrived(self, key: str) -> None:
        """The server has it, and so all that was given before it."""
        entry = self._entries.get(key)
        if entry is not None:
            self._confirm(entry.seq)
            self._forget(key)

    def ended(self, child: str) -> None:
        """Count a child no more, which is over, or was not started."""
        self._children.discard(child)
        self._forget(child)

    def _forget(self, key: str) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._bytes -= entry.size
            self._blind -= entry.is_blind
            self._held -= entry.held or 0

    @asynccontextmanager
    async def sending(self, size: int) -> AsyncGenerator[None]:
        """Give an activity with an input of `size` bytes within; what ends it shows that the server had it."""
        await self._wait_for_room(size, lambda: self._calls)
        key = self._new_key()
        self._calls += 1
        self._add(key, size, is_blind=True)
        try:
            yield
            self.arrived(key)
        finally:
            self._calls -= 1
            self._forget(key)

    @asynccontextmanager
    async def recording(self, most: int) -> AsyncGenerator[Callable[[int], None]]:
        """Run a local activity within, whose result takes `most` bytes or so; say how many it took.

        It leaves with the task that is open when it ends, so that its result counts from then on.
        """
        await self._wait_for_room(most, lambda: 0)
        key, took = self._new_key(), _FAILURE_BYTES
        self._add(key, most)

        def note(size: int) -> None:
            nonlocal took
            took = size

        try:
            yield note
        finally:
            self._add(key, took, is_blind=True)

    def _new_key(self) -> str:
        self._keys += 1
        return f" {self._keys}"  # no child's id begins so

    def _add(self, key: str, size: int, *, held: int | None = None, is_blind: bool = False) -> None:
        self._forget(key)
        self._seq += 1
        entry = _Entry(self._seq, size + _COMMAND_BYTES, held, is_blind)
        self._entries[key] = entry
        self._bytes += entry.size
        self._blind += is_blind
        self._held += held or 0

    def _confirm(self, seq: int) -> None:
        """The server has all that was given up to then."""
        for key in [key for key, each in self._entries.items() if each.is_blind and each.seq <= seq]:
            self._forget(key)

    def _is_small(self, size: int) -> bool:
        return not self._entries or self._bytes + size + _COMMAND_BYTES <= _MAX_BYTES

    async def _wait_for_room(self, size: int, count_open: Callable[[], int], *, held: int | None = None) -> None:
        def has_room() -> bool:
            return self._is_small(size) and count_open() < _MAX_OPEN

        if has_room():
            return
        if workflow.patched(_PATCH):
            while not has_room():
                if self._needs_task(size):
                    self._next_task = asyncio.create_task(self._begin_task())
                await workflow.wait_condition(lambda: has_room() or self._needs_task(size))
        elif held is not None:
            await self._wait_as_before(held)

    def _needs_task(self, size: int) -> bool:
        """Say whether nothing but the end of the task that is open tells that there is room."""
        return not self._is_small(size) and self._blind > 0 and self._next_task is None

    async def _begin_task(self) -> None:
        """Pass the end of the task that is open: what is given by now leaves with that, at the latest."""
        seq = self._seq
        await workflow.sleep(timedelta(milliseconds=1), summary="what was begun goes to the server first")
        self._confirm(seq)
        self._next_task = None

    async def _wait_as_before(self, held: int) -> None:
        while self._held and self._held + held > _MAX_BYTES:
            await workflow.wait_condition(lambda: not self._held or self._held + held <= _MAX_BYTES)


class PlanPace:
    """Held back tasks of plans that began before there was the patch."""

    def __init__(self) -> None:
        """Hold nothing back yet."""
        self._lock = asyncio.Lock()
        self._task = -1
        self._bytes = 0
        self._children = 0

    async def pass_through(self, size: int) -> None:
        """Return when a child with an input of `size` bytes may be started."""
        async with self._lock:
            self._note_task()
            is_full = self._children and (self._bytes + size > _MAX_BYTES or self._children >= _PLAN_CHILDREN)
            if is_full and not workflow.patched(_PATCH):
                await workflow.sleep(timedelta(milliseconds=1))
                self._note_task()
            self._bytes += size
            self._children += 1

    def _note_task(self) -> None:
        """Count anew when a workflow task has begun since."""
        task = workflow.info().get_current_history_length()
        if task != self._task:
            self._task, self._bytes, self._children = task, 0, 0


def outgoing() -> Outgoing:
    """Return what is on its way of the workflow that runs."""
    instance = workflow.instance()
    found: Outgoing | None = getattr(instance, _ATTRIBUTE, None)
    if found is None:
        found = Outgoing()
        setattr(instance, _ATTRIBUTE, found)
    return found
