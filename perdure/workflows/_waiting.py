"""Waiting for a person: a timer at most, and no activity. Workflow side."""

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any

from temporalio import workflow
from temporalio.common import SearchAttributeKey

from perdure.contracts.run import RunState
from perdure.contracts.texts import one_line
from perdure.contracts.waits import DecideRequest, Wait
from perdure.workflows._calls import open_wait
from perdure.workflows._clock import UNBOUNDED, Clock
from perdure.workflows._host import Host, current_host
from perdure.workflows._waits import Faults

_REOPENED_PATCH = "perdure.reopened-waits"
"""Runs that went on before there was this reopened a wait after the end of a pause, and asked its policy again."""
_STATE = SearchAttributeKey.for_keyword("PerdureState")


class Suspended(Exception):
    """The run goes on in another one, where the wait goes on."""


class Expired(Exception):
    """Nobody decided in time.

    Attributes:
        limit: The run's limit that ended the wait; empty where it was the wait's own time.
    """

    def __init__(self, limit: str = "") -> None:
        """Say what ended it."""
        super().__init__(limit)
        self.limit = limit


def wait_id(*parts: str) -> str:
    """Return the id of a wait, from what tells it from any other of the chain of runs.

    It is compared when a run is replayed, so nothing goes in that only the place of the replay knows, such as the
    namespace: a history is also replayed from a file.
    """
    return sha256("\n".join(parts).encode(errors="surrogatepass")).hexdigest()[:8]


def is_reopened(wait_id: str) -> bool:
    """Say whether the run before has put it to a person: that needs no policy, and no end of a pause, to go on."""
    return current_host().waits.is_known(wait_id) and workflow.patched(_REOPENED_PATCH)


def until(term: timedelta | None) -> datetime | None:
    """Return when a time from now is over."""
    return None if term is None else workflow.now() + term


async def wait_for_person(
    wait: Wait, faults: Faults, *, should_suspend: Callable[[], bool] = lambda: False, clock: Clock = UNBOUNDED
) -> DecideRequest:
    """Wait until a person has decided.

    Args:
        wait: What there is to decide.
        faults: Says what is wrong with edited arguments, or an answer.
        should_suspend: Says that the run must continue as new, and can.
        clock: Says when the run's time is over, and the wait with it.

    Raises:
        Expired: Nobody decided in time.
        Suspended: `should_suspend` said so.
    """
    host = current_host()
    await _be_found(host)
    book = host.waits
    book.ask(wait, faults)
    try:
        while not book.is_settled(wait.id):
            await _wait_once(host, wait.id, should_suspend, clock)
    except asyncio.CancelledError:
        book.withdraw(wait.id)
        raise
    request = book.take(wait.id)
    if request is None:
        raise Expired(clock.limit if clock.is_over else "")
    return request


async def _wait_once(host: Host, wait_id: str, should_suspend: Callable[[], bool], clock: Clock) -> None:
    book = host.waits
    wait = book.find(wait_id)
    over = clock.deadline
    ends = min((each for each in (wait.deadline, over) if each is not None), default=None)
    left = None if ends is None else ends - workflow.now()
    try:
        if left is not None and left <= timedelta(0):
            raise TimeoutError
        await workflow.wait_condition(
            lambda: book.is_settled(wait_id) or should_suspend() or clock.deadline != over,
            timeout=left,
            timeout_summary=_summary(wait),
        )
    except TimeoutError:
        if not book.is_settled(wait_id):
            book.expire(wait_id, workflow.now(), is_final=clock.is_over)
        return
    if not book.is_settled(wait_id) and should_suspend():
        raise Suspended


def _summary(wait: Wait) -> str:
    about = f"approval of {wait.tool}" if wait.kind == "approval" else f"answer to: {wait.question}"
    return one_line(f"time for the {about}")


async def _be_found(host: Host) -> None:
    """Have a workflow of the user's own show its state to whoever lists runs; an agent's run does that itself."""
    if host.shows_state:
        return
    host.shows_state = True
    if _STATE.name in (await open_wait()).search_attributes:
        host.waits.on_change = _show_state


def _show_state() -> None:
    state: RunState | None = current_host().waits.run_state()
    present: Any = workflow.info().typed_search_attributes.get(_STATE)
    if state != present and (state is not None or present in ("waiting_approval", "waiting_answer")):
        workflow.upsert_search_attributes([_STATE.value_set(state or "working")])
