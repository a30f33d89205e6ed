"""Activities around the choice of agents: choosing one, and telling the scoreboard. Activity side.

They need the registry, which workflow code may not load. Neither keeps a run waiting: a scoreboard that doesn't
answer within a second is done without.
"""

from collections.abc import Sequence
from random import Random

from temporalio import activity

from perdure.activities._choosing import Chooser, NoChoice
from perdure.activities._progress import Heart
from perdure.activities._scores import ScoreboardReader, ScoreboardUnavailable, send_outcomes
from perdure.agents.agent import Agent
from perdure.agents.registry import Registry
from perdure.agents.sampling import choose_by_draw
from perdure.agents.selection import choose_by_rules, suited
from perdure.contracts.names import QUOTE_SELECTION, RECORD_OUTCOMES, SELECT_AGENT
from perdure.contracts.scores import OutcomeBatch, RecordOutcomesResult, ScoreRow, scoreboard_id
from perdure.contracts.selection import Selection, SelectionQuote, SelectRequest


class SelectionActivities:
    """Chooses agents, and tells the scoreboard what became of their work."""

    def __init__(
        self, *, registry: Registry, chooser: Chooser, reader: ScoreboardReader, scoreboard: str | None
    ) -> None:
        """Work with these; `scoreboard` is its workflow id, as configured."""
        self._registry = registry
        self._chooser = chooser
        self._reader = reader
        self._scoreboard = scoreboard

    @activity.defn(name=SELECT_AGENT)
    async def select_agent(self, request: SelectRequest) -> Selection:
        """Return the agent for a piece of work, and why.

        Raises:
            UnknownAgentError, NoCandidateError: Not retryable.
        """
        candidates = suited(request, self._registry.agents)
        if len(candidates) == 1 or request.strategy == "rules":
            return choose_by_rules(request, candidates).model_copy(update={"note": request.note})
        if request.strategy == "model":
            return await self._by_model(request, candidates)
        return await self._by_draw(request, candidates)

    @activity.defn(name=QUOTE_SELECTION)
    async def quote_selection(self, request: SelectRequest) -> SelectionQuote:
        """Return what having a model choose can take at most.

        Raises:
            UnknownAgentError, NoCandidateError: Not retryable.
        """
        candidates = suited(request, self._registry.agents)
        if len(candidates) == 1:
            return SelectionQuote()
        try:
            return SelectionQuote(bounds=self._chooser.quote(request, candidates))
        except NoChoice as error:
            return SelectionQuote(problem=str(error))

    @activity.defn(name=RECORD_OUTCOMES)
    async def record_outcomes(self, batch: OutcomeBatch) -> RecordOutcomesResult:
        """Send a batch to the scoreboard, and start it where there is none; what can't be sent is lost."""
        try:
            await send_outcomes(activity.client(), self._board_id(), activity.info().task_queue, batch)
        except ScoreboardUnavailable as error:
            return RecordOutcomesResult(note=f"{error}: these outcomes are lost")
        return RecordOutcomesResult()

    async def _by_model(self, request: SelectRequest, candidates: Sequence[Agent]) -> Selection:
        try:
            with Heart():
                return await self._chooser.choose(request, candidates)
        except NoChoice as error:
            chosen = choose_by_rules(request, candidates)
            return chosen.model_copy(update={"note": f"{error}: chosen by rules", **error.told})

    async def _by_draw(self, request: SelectRequest, candidates: Sequence[Agent]) -> Selection:
        try:
            known = await self._reader.rows(activity.client(), self._board_id(), request.kind)
        except ScoreboardUnavailable as error:
            chosen = choose_by_rules(request, candidates)
            return chosen.model_copy(update={"note": f"{error}: chosen by rules"})
        rows = [known.get(agent.name) or ScoreRow(name=agent.name) for agent in candidates]
        return choose_by_draw(request, rows, Random(_seed()))

    def _board_id(self) -> str:
        return scoreboard_id(self._scoreboard, activity.info().task_queue)


def _seed() -> str:
    """Return what makes the draws of this activity its own, and the same when it is tried again."""
    info = activity.info()
    return f"{info.workflow_id} {info.workflow_run_id} {info.activity_id}"
