"""Pausing a workflow and all that is below it. Workflow side.

What is in flight ends; nothing new is started. Every child is told, and a child that starts meanwhile too.
"""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from temporalio import workflow
from temporalio.api.common.v1 import Payload
from temporalio.exceptions import FailureError

from perdure.contracts.names import PAUSE_HEADER, PAUSE_SIGNAL
from perdure.contracts.steering import PauseNotice
from perdure.workflows._headers import read_header, write_header

_SENDING: set["asyncio.Task[None]"] = set()
"""The event loop keeps weak references only."""


class Pause:
    """Whether a workflow is paused.

    Attributes:
        is_on: Whether it is.
        on_change: Called after each change.
    """

    def __init__(self) -> None:
        """It isn't."""
        self.is_on = False
        self.seq = 0
        self.on_change: Callable[[], None] = _do_nothing
        self._sent = 0
        self._children: dict[str, int] = {}

    def restore(self, *, is_on: bool, seq: int) -> None:
        """Take over how it was when the workflow continued as new."""
        self.is_on, self.seq = is_on, seq

    def open(self, headers: Mapping[str, Payload]) -> None:
        """Take over the same where the workflow's input is the user's own."""
        known: PauseNotice | None = read_header(headers, PAUSE_HEADER, PauseNotice)
        if known is not None:
            self.restore(is_on=known.is_on, seq=known.seq)

    def headers_on(self) -> dict[str, Payload]:
        """Return what tells it to the run that continues this one."""
        if not self.is_on and not self.seq:
            return {}
        return write_header(PAUSE_HEADER, PauseNotice(is_on=self.is_on, seq=self.seq))

    def hear(self, notice: PauseNotice) -> None:
        """Do the signal `perdure.pause`; a notice of the parent that was overtaken changes nothing."""
        if notice.seq:
            if notice.seq <= self.seq:
                return
            self.seq = notice.seq
        if notice.is_on == self.is_on:
            return
        self.is_on = notice.is_on
        self._sent += 1
        for child in self._children:
            self._tell(child)
        self.on_change()

    async def passed(self) -> None:
        """Return when the workflow isn't paused."""
        while self.is_on:
            await workflow.wait_condition(lambda: not self.is_on)

    def started(self, child: str) -> None:
        """Note an open child; one that started just before the pause is told of it."""
        self._children[child] = self._children.get(child, 0) + 1
        if self.is_on:
            self._tell(child)

    def ended(self, child: str) -> None:
        """Note that it is over."""
        left = self._children.pop(child, 1) - 1
        if left:
            self._children[child] = left

    def _tell(self, child: str) -> None:
        notice = PauseNotice(is_on=self.is_on, seq=self._sent)
        task = asyncio.create_task(_send(child, notice))
        _SENDING.add(task)
        task.add_done_callback(_SENDING.discard)


async def _send(child: str, notice: PauseNotice) -> None:
    with suppress(FailureError):  # it has ended by now
        handle: workflow.ExternalWorkflowHandle[Any] = workflow.get_external_workflow_handle(child)
        await handle.signal(PAUSE_SIGNAL, notice)


def _do_nothing() -> None:
    """Nobody wants to know."""
