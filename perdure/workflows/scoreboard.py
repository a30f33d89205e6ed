"""`Scoreboard`: a long-lived workflow that remembers what became of work. Workflow side; outside of the sandbox.

It is started by the first signal and never ends. All of it is in memory and in its history: batches of outcomes
come as signals, whoever chooses an agent asks by query, and it continues as new with the table alone.
"""

from temporalio import workflow

from perdure.contracts.names import OUTCOMES_SIGNAL, SCOREBOARD_QUERY, SCOREBOARD_WORKFLOW
from perdure.contracts.scores import OutcomeBatch, ScoreboardQuery, ScoreboardState, ScoreTable
from perdure.workflows._board import Board

_MAX_SIGNALS = 500
"""Of one run: a history that is in no worker's memory is replayed, and who asks waits for a second only."""


@workflow.defn(name=SCOREBOARD_WORKFLOW, sandboxed=False)
class Scoreboard:
    """Keeps a row for each agent, and each model, at each kind of work."""

    @workflow.init
    def __init__(self, state: ScoreboardState) -> None:
        """Know the table before the first signal comes."""
        self._board = Board(state)
        self._signals = 0

    @workflow.run
    async def run(self, state: ScoreboardState) -> None:
        """Take outcomes until the history is long enough, and go on in a new run."""
        await workflow.wait_condition(self._is_due)
        workflow.continue_as_new(self._board.state())

    def _is_due(self) -> bool:
        return self._signals >= _MAX_SIGNALS or workflow.info().is_continue_as_new_suggested()

    @workflow.signal(name=OUTCOMES_SIGNAL)
    def record(self, batch: OutcomeBatch) -> None:
        """Enter a batch of outcomes; one that came before is left out."""
        self._signals += 1
        self._board.add(batch)

    @workflow.query(name=SCOREBOARD_QUERY)
    def table(self, query: ScoreboardQuery) -> ScoreTable:
        """Return the rows."""
        return self._board.table(query.of_kind)
