"""Stopping one model call, while its run goes on. Workflow side."""

import asyncio
from typing import Any


class Interrupted(Exception):
    """Somebody stopped the model call in flight, and nothing of its reply is there."""


class Interruption:
    """Stops one model call: the one in flight, or the one that is about to be made.

    Attributes:
        is_asked: Whether somebody wants that.
        has_begun: Whether there was a call at all.
    """

    def __init__(self) -> None:
        """Nobody does."""
        self.is_asked = False
        self.has_begun = False
        self._call: asyncio.Task[Any] | None = None

    def ask(self) -> None:
        """Stop it; a call that is cancelled is waited for, and may end with a part of its reply."""
        self.is_asked = True
        if self._call is not None:
            self._call.cancel()

    def watch(self, call: "asyncio.Task[Any]") -> None:
        """Note the call in flight; one that has ended is left alone."""
        self.has_begun = True
        self._call = call
        call.add_done_callback(self._forget)

    def check(self, cause: BaseException | None = None) -> None:
        """Go on with the interruption.

        Raises:
            Interrupted: There was one.
        """
        if self.is_asked:
            raise Interrupted from cause

    def _forget(self, call: "asyncio.Task[Any]") -> None:
        if self._call is call:
            self._call = None
