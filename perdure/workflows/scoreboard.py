"""`Scoreboard`: a long-lived workflow that remembers what became of work. Workflow side; outside of the sandbox.

It is started by the first signal and never ends. All of it is in memory and in its history: batches of outcomes
come as signals, whoever chooses an agent asks by query, and it continues as new with the table alone.
"""

from collections import deque
from datetime import timedelta

from temporalio import workflow
from temporalio.api.common.v1 import Payload
from temporalio.common import RawValue

from perdure.contracts.names import OUTCOMES_SIGNAL, SCOREBOARD_QUERY, SCOREBOARD_WORKFLOW
from perdure.contracts.scores import OutcomeBatch, ScoreboardQuery, ScoreboardState, ScoreTable
from perdure.workflows._board import Board

_MAX_SIGNALS = 300
"""Of one run: a history that is in no worker's memory is replayed, and who asks waits for a second only."""
_AT_ONCE = 100
"""Batches entered in one go: after a time without a worker thousands wait, and a workflow task has two seconds."""
_NOTHING = RawValue(Payload())


@workflow.defn(name=SCOREBOARD_WORKFLOW, sandboxed=False)
class Scoreboard:
    """Keeps a row for each agent, and each model, at each kind of work."""

    @workflow.init
    def __init__(self, state: ScoreboardState) -> None:
        """Know the table before the first signal comes."""
        self._board = Board(state)
        self._waiting: deque[RawValue] = deque()
        self._signals = 0

    @workflow.run
    async def run(self, state: ScoreboardState) -> None:
        """Take outcomes until the history is long enough, and go on in a new run."""
        while True:
            await workflow.wait_condition(lambda: bool(self._waiting) or self._is_due())
            for _ in range(min(_AT_ONCE, len(self._waiting))):
                self._enter(self._waiting.popleft())
            if self._waiting:
                await workflow.sleep(timedelta(milliseconds=1))  # the rest is for another workflow task
            elif self._is_due():
                workflow.continue_as_new(self._board.state())

    def _is_due(self) -> bool:
        is_long = self._signals >= _MAX_SIGNALS or workflow.info().is_continue_as_new_suggested()
        return is_long and workflow.all_handlers_finished()

    def _enter(self, value: RawValue) -> None:
        try:
            batch: OutcomeBatch = workflow.payload_converter().from_payload(value.payload, OutcomeBatch)
        except Exception as error:  # anybody can send anything, and the table must outlive that
            workflow.logger.warning("The scoreboard was sent what is no batch: %s", type(error).__name__)
            return
        self._board.add(batch)

    @workflow.signal(name=OUTCOMES_SIGNAL)
    def record(self, batch: RawValue = _NOTHING) -> None:
        """Take a batch of outcomes; one that came before is left out."""
        self._signals += 1
        self._waiting.append(batch)

    @workflow.query(name=SCOREBOARD_QUERY)
    def table(self, query: ScoreboardQuery) -> ScoreTable:
        """Return the rows."""
        return self._board.table(query.of_kind)
