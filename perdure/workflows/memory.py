"""`Memory`: a long-lived workflow that remembers for a user, or a tenant. Workflow side; unsandboxed.

It is started by the first signal. Runs tell it what to remember by signals and ask it by query. It continues as
new with its entries alone when its history is long, and whenever something is forgotten or has expired, so that
the input of its open run doesn't hold that any more. One that has been empty for a day ends.
"""

from collections import deque
from datetime import timedelta

from temporalio import workflow
from temporalio.api.common.v1 import Payload
from temporalio.common import RawValue

from perdure.contracts.memory import (
    ForgetRequest,
    ForgetResult,
    MemoryBatch,
    MemoryQuery,
    MemoryState,
    MemoryView,
)
from perdure.contracts.names import FORGET_UPDATE, MEMORY_QUERY, MEMORY_WORKFLOW, REMEMBER_SIGNAL
from perdure.workflows._memories import Memories

_MAX_SIGNALS = 300
"""Of one run: a history that is in no worker's memory is replayed, and who asks waits for two seconds only."""
_AT_ONCE = 100
_EMPTY_FOR = timedelta(days=1)
_SLACK = timedelta(hours=1)
"""How much later than it expires an entry is dropped, so that many go together. It isn't told meanwhile."""
_NOTHING = RawValue(Payload())


@workflow.defn(name=MEMORY_WORKFLOW, sandboxed=False)
class Memory:
    """Keeps entries up to a size; what was neither written nor recalled for the longest makes room."""

    @workflow.init
    def __init__(self, state: MemoryState) -> None:
        """Know the entries before the first signal comes."""
        self._memories = Memories(state)
        self._waiting: deque[RawValue] = deque()
        self._signals = 0
        self._has_forgotten = False

    @workflow.run
    async def run(self, state: MemoryState) -> None:
        """Take what comes until there is a reason to go on in a new run, or nothing is left."""
        while True:
            try:
                await workflow.wait_condition(
                    lambda: bool(self._waiting) or self._is_due(), timeout=self._patience()
                )
            except TimeoutError:
                if not len(self._memories):
                    return
                self._has_forgotten = self._memories.expire(workflow.now()) > 0
            self._enter(_AT_ONCE)
            if self._waiting:
                await workflow.sleep(timedelta(milliseconds=1))  # the rest is for another workflow task
            elif self._is_due():
                workflow.continue_as_new(self._memories.state())

    def _patience(self) -> timedelta | None:
        if not len(self._memories):
            return _EMPTY_FOR
        expiry = self._memories.next_expiry()
        return None if expiry is None else max(expiry - workflow.now(), timedelta(0)) + _SLACK

    def _is_due(self) -> bool:
        is_long = self._signals >= _MAX_SIGNALS or workflow.info().is_continue_as_new_suggested()
        return (is_long or self._has_forgotten) and workflow.all_handlers_finished()

    def _enter(self, most: int) -> None:
        for _ in range(min(most, len(self._waiting))):
            value = self._waiting.popleft()
            try:
                batch: MemoryBatch = workflow.payload_converter().from_payload(value.payload, MemoryBatch)
            except Exception as error:  # anybody can send anything, and the memory must outlive that
                workflow.logger.warning("A memory was sent what is no batch: %s", type(error).__name__)
                continue
            self._memories.take(batch)

    @workflow.signal(name=REMEMBER_SIGNAL)
    def remember(self, batch: RawValue = _NOTHING) -> None:
        """Take a batch of entries; one that came before is left out."""
        self._signals += 1
        self._waiting.append(batch)

    @workflow.query(name=MEMORY_QUERY)
    def view(self, query: MemoryQuery) -> MemoryView:
        """Return the entries."""
        return self._memories.view(query.now)

    @workflow.update(name=FORGET_UPDATE)
    def forget(self, request: ForgetRequest) -> ForgetResult:
        """Forget entries, those that were sent before this came included."""
        self._enter(len(self._waiting))
        forgotten = self._memories.forget(request)
        self._has_forgotten = self._has_forgotten or bool(forgotten)
        return ForgetResult(keys=forgotten)
