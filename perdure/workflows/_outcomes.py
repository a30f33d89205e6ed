"""`Outbox`: outcomes on their way to the scoreboard, in batches. Workflow side.

A batch leaves when it is full, when an outcome comes and the first has waited long enough, and at the workflow's
end. No timer is set, and nothing waits for the batch but the end. What can't be sent within a second is lost, and
that is all: see `perdure.activities.selecting`.
"""

import asyncio
from datetime import datetime, timedelta
from hashlib import sha256

from temporalio import workflow
from temporalio.exceptions import ActivityError, is_cancelled_exception

from perdure.contracts.scores import Outcome, OutcomeBatch
from perdure.workflows._calls import record_outcomes

_FULL = 100
"""Outcomes of a batch: about 15 kB."""
_MAX_WAIT = timedelta(seconds=30)
_PATCH = "perdure-outcomes"
"""Plans that were started before there was a scoreboard send nothing: their histories have no such step."""


class Outbox:
    """The outcomes of one workflow."""

    def __init__(self) -> None:
        """Hold nothing."""
        self._held: list[Outcome] = []
        self._since: datetime | None = None
        self._sending: set[asyncio.Task[None]] = set()
        self._batches = 0

    def add(self, outcome: Outcome) -> None:
        """Take an outcome; it leaves with others."""
        self._since = self._since or workflow.now()
        self._held.append(outcome)
        if len(self._held) >= _FULL or workflow.now() - self._since >= _MAX_WAIT:
            self._send()

    async def flush(self) -> None:
        """Send what is held, and wait for everything that was sent."""
        if self._held:
            self._send()
        if self._sending:
            await workflow.wait(list(self._sending))

    def _send(self) -> None:
        held, self._held, self._since = self._held, [], None
        if not workflow.patched(_PATCH):
            return
        self._batches += 1
        info = workflow.info()
        name = f"{info.workflow_id}\n{info.run_id}\n{self._batches}"
        batch = OutcomeBatch(id=sha256(name.encode(errors="replace")).hexdigest()[:16], outcomes=tuple(held))
        task = asyncio.create_task(_record(batch))
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)


async def _record(batch: OutcomeBatch) -> None:
    try:
        await record_outcomes(batch)
    except ActivityError as error:
        if is_cancelled_exception(error):
            raise
        workflow.logger.warning("%d outcomes did not reach the scoreboard: %s", len(batch.outcomes), error.cause)
