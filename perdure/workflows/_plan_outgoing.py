"""Pacing of the starts of children, by what the server takes at once. Workflow side."""

import asyncio
from datetime import timedelta

from temporalio import workflow

_BATCH_BYTES = 2_000_000
"""Inputs that leave in one workflow task: the server ends a run whose task is over 4 MB."""
_BATCH_CHILDREN = 50


class Outgoing:
    """Holds back what would make the commands of one workflow task too large."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._task = -1
        self._bytes = 0
        self._children = 0

    async def pass_through(self, size: int) -> None:
        """Return when a child with an input of `size` bytes may be started."""
        async with self._lock:
            self._note_task()
            if self._children and (self._bytes + size > _BATCH_BYTES or self._children >= _BATCH_CHILDREN):
                await workflow.sleep(timedelta(milliseconds=1))
                self._note_task()
            self._bytes += size
            self._children += 1

    def _note_task(self) -> None:
        """Count anew when a workflow task has begun since."""
        task = workflow.info().get_current_history_length()
        if task != self._task:
            self._task, self._bytes, self._children = task, 0, 0
