"""A session between two messages: it waits, and holds nothing. Workflow side."""

from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Literal

from temporalio import workflow

from perdure.contracts.steering import IDLE_SUMMARY, Session
from perdure.workflows._clock import Clock
from perdure.workflows._inbox import Inbox

Next = Literal["message", "timeout", "stop"]
_GOING_ON = "max_turns="
"""The one limit that counts anew for each message."""


def ends_session(limit: str | None) -> bool:
    """Say whether an answer at a limit is the last one: there is no room for another message."""
    return limit is not None and not limit.startswith(_GOING_ON)


async def wait_for_message(
    session: Session, inbox: Inbox, *, since: datetime, should_stop: Callable[[], bool], clock: Clock
) -> Next:
    """Say what comes first: the next message, the end of the idle time or of the run's, or `should_stop()`."""

    def ends() -> datetime:
        idle = since + session.idle_timeout
        return idle if clock.deadline is None else min(idle, clock.deadline)

    summary = f"{IDLE_SUMMARY}{inbox.received + 1}"
    while not inbox and (left := (armed := ends()) - workflow.now()) > timedelta(0):
        with suppress(TimeoutError):
            await workflow.wait_condition(
                lambda armed=armed: bool(inbox) or should_stop() or ends() != armed,
                timeout=left,
                timeout_summary=summary,
            )
        if should_stop():
            break
    if inbox:
        return "message"
    return "stop" if should_stop() and workflow.now() < ends() else "timeout"
