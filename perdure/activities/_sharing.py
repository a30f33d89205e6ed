"""One execution for all runs that make the same call. Activity side; owns the ids of such calls.

The execution is a Temporal standalone activity whose id is the hash of the call: the server sees to it that there
is one in the cluster. It runs on a task queue with slots of its own: who waits for it holds a slot of the other
queue, for two seconds at most, and comes again later.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any, Generic, TypeVar

from pydantic_core import to_json
from temporalio import activity
from temporalio.client import ActivityFailureError, ActivityHandle
from temporalio.common import ActivityIDConflictPolicy, ActivityIDReusePolicy, RetryPolicy
from temporalio.exceptions import ActivityAlreadyStartedError, ApplicationError
from temporalio.service import RPCError, RPCStatusCode

from perdure.activities._progress import Heart, last_progress
from perdure.contracts._base import Contract
from perdure.contracts.calls import Progress
from perdure.contracts.names import KEEP_SHARED_REPLY, SHARED_QUEUE_SUFFIX

T = TypeVar("T")

_log = logging.getLogger(__name__)

_FORMAT = "1"
"""Of the hash: another one means other ids, so that nothing of the past is found."""
_WAIT = timedelta(seconds=2)
_MIN_DELAY = timedelta(milliseconds=200)
_MAX_DELAY = timedelta(seconds=15)
_KEEPING = timedelta(minutes=1)
"""For an execution that has nothing to do; who looks for its result waits while it is open."""


@dataclass(frozen=True, kw_only=True)
class SharedCall(Generic[T]):
    """A call, as every run that makes it would make it.

    Attributes:
        name: What it is called in the id: the tool, or `model`.
        activity: The activity that executes it.
        parts: All that its result depends on; JSON values.
        ttl: How old a result may be.
        result_type: What the activity returns.
        timeout: For one attempt.
        total: For all of them.
        max_attempts: Attempts, those included whose worker died; 0 for as many as there is time for.
        summary: For the web UI.
    """

    name: str
    activity: str
    parts: Sequence[Any]
    ttl: timedelta
    result_type: type[T]
    timeout: timedelta
    total: timedelta
    max_attempts: int
    summary: str


class SharedCallFailed(Exception):
    """The execution failed for good; `cause` says how. The next run that asks makes the call again."""

    def __init__(self, cause: BaseException) -> None:
        """Keep what the server says."""
        super().__init__(str(cause))
        self.cause = cause


class Sharing:
    """Joins executions, and starts those that are not there yet.

    Args:
        scope: What the results of this worker's credentials may be seen by; part of every id.
    """

    def __init__(self, scope: str = "") -> None:
        """Take the server for one that knows standalone activities, until it says otherwise."""
        self._scope = scope
        self._is_supported = True

    def call_id(self, call: SharedCall[Any], now: datetime) -> str:
        """Return the id of a call: the same for all that are identical, within a `ttl`.

        The time is cut into pieces of the length of `ttl`; where they begin depends on the call, so that not all
        results become old at once.
        """
        ttl = int(call.ttl.total_seconds())
        known = to_json([_FORMAT, self._scope, call.activity, *call.parts, ttl])
        offset = int.from_bytes(sha256(known).digest()[:8], "big") % ttl
        bucket = (int(now.timestamp()) + offset) // ttl
        return f"perdure-{call.name}-{sha256(known + str(bucket).encode()).hexdigest()[:40]}"

    async def join(self, call: SharedCall[T], make_request: Callable[[str], Contract]) -> T | None:
        """Return the result of the one execution of a call; None where the server can't have one.

        Args:
            call: The call.
            make_request: Makes the input of the activity from the id of the call.

        Raises:
            ApplicationError: It is still being made, or the server did not answer. Retryable, after a delay that
                grows with the time waited.
            SharedCallFailed: It failed, for all that waited for it.
        """
        if not self._is_supported:
            return None
        with Heart():
            try:
                handle = await self._find(call, make_request)
                outcome = await _outcome(handle)
            except RPCError as error:
                if error.status != RPCStatusCode.UNIMPLEMENTED:
                    raise _no_answer(call, error) from None
                self._is_supported = False
                _log.warning(
                    "This Temporal server has no standalone activities (%s): calls are not shared between runs, "
                    "and every run makes its own.",
                    error.message,
                )
                return None
        if outcome is None:
            activity.heartbeat(Progress(joined=handle.run_id or ""))
            raise _still_being_made(call)
        return outcome

    async def find(self, call: SharedCall[T], heart: Heart) -> T | None:
        """Return the result of an execution that another run began; None where there is none, or it failed.

        It begins none itself, and so costs nothing.

        Raises:
            ApplicationError: It is still being made, or the server did not answer. Retryable, as for `join`;
                `heart` tells that it was free.
        """
        if not self._is_supported:
            return None
        # The first attempt's time: one that waits goes on waiting for the same execution.
        call_id = self.call_id(call, activity.info().scheduled_time)
        handle = activity.client().get_activity_handle(call_id, result_type=call.result_type)
        try:
            with heart:
                outcome = await _outcome(handle)
        except SharedCallFailed:
            return None
        except RPCError as error:
            self._is_supported = error.status != RPCStatusCode.UNIMPLEMENTED
            if error.status in (RPCStatusCode.UNIMPLEMENTED, RPCStatusCode.NOT_FOUND):
                return None
            heart.clear()
            raise _no_answer(call, error) from None
        if outcome is None:
            heart.clear()
            raise _still_being_made(call)
        return outcome

    async def keep(self, call: SharedCall[Any], request: Contract) -> None:
        """Keep a result for other runs: as that of an execution which has nothing to do. What can't be is lost."""
        if not self._is_supported:
            return
        call_id = self.call_id(call, activity.info().scheduled_time)
        try:
            await self._start(replace(call, total=_KEEPING), call_id, request, KEEP_SHARED_REPLY)
        except (RPCError, ActivityAlreadyStartedError) as error:
            _log.info("A reply was not kept for other runs: %s", error)

    async def _find(self, call: SharedCall[T], make_request: Callable[[str], Contract]) -> ActivityHandle[T]:
        info, client = activity.info(), activity.client()
        # The first attempt's time: one that waits goes on waiting for the same execution.
        call_id = self.call_id(call, info.scheduled_time)
        joined = last_progress().joined
        if joined:
            return client.get_activity_handle(call_id, run_id=joined, result_type=call.result_type)
        try:
            return await self._start(call, call_id, make_request(call_id), call.activity)
        except ActivityAlreadyStartedError as error:
            return client.get_activity_handle(call_id, run_id=error.run_id, result_type=call.result_type)

    async def _start(
        self, call: SharedCall[T], call_id: str, request: Contract, activity_name: str
    ) -> ActivityHandle[T]:
        info = activity.info()
        return await activity.client().start_activity(
            activity_name,
            request,
            id=call_id,
            task_queue=info.task_queue + SHARED_QUEUE_SUFFIX,
            result_type=call.result_type,
            start_to_close_timeout=call.timeout,
            schedule_to_close_timeout=call.total,
            heartbeat_timeout=info.heartbeat_timeout,
            id_conflict_policy=ActivityIDConflictPolicy.USE_EXISTING,
            id_reuse_policy=ActivityIDReusePolicy.ALLOW_DUPLICATE_FAILED_ONLY,
            retry_policy=RetryPolicy(
                initial_interval=_MIN_DELAY, backoff_coefficient=1, maximum_attempts=call.max_attempts
            ),
            summary=call.summary,
        )


def asker_name() -> str:
    """Return what tells the call that asks from all others, over its attempts."""
    info = activity.info()
    return f"{info.workflow_id}/{info.workflow_run_id}/{info.activity_id}"


async def _outcome(handle: ActivityHandle[T]) -> T | None:
    """Return the result; None when there is none yet."""
    try:
        async with asyncio.timeout(_WAIT.total_seconds()):
            return await handle.result()
    except TimeoutError:
        return None
    except ActivityFailureError as error:
        raise SharedCallFailed(error.cause) from None


def _still_being_made(call: SharedCall[Any]) -> ApplicationError:
    return ApplicationError(
        f"Waits for the same call, which another run makes: {call.summary}",
        type="SharedCallPending",
        next_retry_delay=_delay(),
    )


def _no_answer(call: SharedCall[Any], error: RPCError) -> ApplicationError:
    """Return the failure of an attempt that the server did not answer.

    What it was to be asked for is forgotten where the server knows it no more: the next attempt starts it anew.
    """
    if error.status == RPCStatusCode.NOT_FOUND:
        activity.heartbeat(Progress())
    return ApplicationError(
        f"Temporal did not tell of the shared call {call.summary}: {error.message}",
        type="SharedCallUnavailable",
        next_retry_delay=_delay(),
    )


def _delay() -> timedelta:
    waited = datetime.now(UTC) - activity.info().scheduled_time
    return min(_MAX_DELAY, max(_MIN_DELAY, waited / 4))
