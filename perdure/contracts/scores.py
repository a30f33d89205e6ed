"""What became of work, by kind of work and by who did it. Both sides; what the scoreboard keeps and is told."""

from typing import Annotated

from pydantic import Field

from perdure.contracts._base import Contract

MAX_ROWS = 400
"""Rows of a scoreboard: all of them go along when it continues as new, in about 100 kB."""
MAX_LABEL_CHARS = 100
"""Of a kind, an agent or a model, as the scoreboard keeps it."""
OTHERS = "*"
"""Kind and name of the row in which the rows that had to make room are added up."""

_Amount = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]
_Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class Outcome(Contract):
    """What became of one piece of work, or what a person thinks of it."""

    agent: str
    kind: str = ""
    """The `Task.kind` of the work."""
    model: str = ""
    """The model that gave the answer, where it is known."""
    is_success: bool | None = None
    """None for a judgement of work that was counted when it ended."""
    score: _Share | None = None
    """A verifier's, or a person's."""
    cost_usd: _Amount | None = None
    """None where a price is not known."""
    seconds: _Amount | None = None
    note: str = ""
    """What a person says."""


class OutcomeBatch(Contract):
    """What a run tells the scoreboard, in one signal."""

    id: str
    """A batch that comes again is not counted again."""
    outcomes: tuple[Outcome, ...] = ()


class ScoreRow(Contract):
    """All that is known of one agent, or one model, at one kind of work."""

    kind: str = ""
    name: str
    is_model: bool = False
    successes: int = 0
    failures: int = 0
    score_sum: float = 0.0
    scores: int = 0
    """How many scores `score_sum` adds up, of verifiers and of people."""
    cost_usd: float = 0.0
    costs: int = 0
    seconds: float = 0.0
    times: int = 0
    good: float = 0.0
    """Successes, as far as they still count: see `perdure.workflows._board`."""
    bad: float = 0.0
    recent_cost_usd: float = 0.0
    """Mean of the latest; meaningless while `costs` is 0."""
    recent_seconds: float = 0.0
    at: int = 0
    """Number of the outcome of the kind up to which `good` and `bad` are discounted."""
    note: str = ""
    """What the last person said who said anything."""

    @property
    def mean_score(self) -> float | None:
        """Mean of the scores; None without any."""
        return self.score_sum / self.scores if self.scores else None

    @property
    def mean_cost_usd(self) -> float | None:
        """Mean of the costs that are known; None without any."""
        return self.cost_usd / self.costs if self.costs else None

    @property
    def mean_seconds(self) -> float | None:
        """Mean of the times; None without any."""
        return self.seconds / self.times if self.times else None

    @property
    def recent_success(self) -> float | None:
        """Share of successes, the latest counting most; None when nothing counts."""
        weight = self.good + self.bad
        return self.good / weight if weight > 0 else None


class ScoreboardState(Contract):
    """Start a scoreboard; also all that it hands to its successor when it continues as new."""

    rows: tuple[ScoreRow, ...] = ()
    """The one that was used longest ago comes first: it makes room for a new one."""
    batches: tuple[str, ...] = ()
    """Ids of the batches that came last."""
    outcomes: int = 0
    """Counted so far."""


class ScoreboardQuery(Contract):
    """Ask a scoreboard for its rows."""

    of_kind: str | None = None
    """Only these; all when None."""


class ScoreTable(Contract):
    """Rows of a scoreboard: agents and models by kind, in the order of their names."""

    rows: tuple[ScoreRow, ...] = ()
    outcomes: int = 0
    """Counted so far, whatever the query."""


class RecordOutcomesResult(Contract):
    """Whether a batch is on its way to the scoreboard."""

    note: str = ""
    """Why not. The batch is lost then: a run waits for no scoreboard."""


def scoreboard_id(configured: str | None, task_queue: str) -> str:
    """Return the workflow id of the scoreboard: as configured, else one for each Task Queue."""
    return configured or f"perdure-scoreboard-{task_queue}"
