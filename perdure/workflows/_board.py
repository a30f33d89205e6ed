"""`Board`: the scoreboard's table, and how an outcome changes it. Workflow side; pure.

`good` and `bad` of a row are what `learned` draws from: the parameters of a Beta distribution, less its prior of
one each. An outcome adds to them a success of 1, a failure of 0, or the score between; and it discounts what was
there, so that an agent which has changed is noticed: discounted Thompson sampling, after V. Raj and S. Kalyani,
"Taming Non-stationary Bandits: A Bayesian Approach" (arXiv:1707.09727). With an agent's own outcome its row fades
to `_OWN_DISCOUNT` (what counts is about its last 40), with that of another agent of the same kind of work to
`_OTHERS_DISCOUNT` only: who isn't chosen is forgotten slowly, and is tried again in the end.
"""

from perdure.contracts.scores import (
    MAX_LABEL_CHARS,
    MAX_ROWS,
    OTHERS,
    Outcome,
    OutcomeBatch,
    ScoreboardState,
    ScoreRow,
    ScoreTable,
)

_OWN_DISCOUNT = 0.975
_OTHERS_DISCOUNT = 0.995
_MAX_BATCHES = 500
"""Ids that are remembered: a batch comes again within seconds, or never."""
_MAX_NOTE_CHARS = 200

_Key = tuple[str, str, bool]


class Board:
    """Rows by kind and by agent or model."""

    def __init__(self, state: ScoreboardState) -> None:
        """Go on from what a predecessor knew."""
        self._rows: dict[_Key, ScoreRow] = {_key(row): row for row in state.rows}
        self._batches: dict[str, None] = dict.fromkeys(state.batches)
        self._outcomes = state.outcomes
        self._latest: dict[tuple[str, bool], int] = {}
        for row in state.rows:
            self._note_latest(row)

    def add(self, batch: OutcomeBatch) -> None:
        """Enter a batch, unless it is here already."""
        if batch.id in self._batches:
            return
        self._batches[batch.id] = None
        if len(self._batches) > _MAX_BATCHES:
            del self._batches[next(iter(self._batches))]
        for outcome in batch.outcomes:
            self._outcomes += 1
            self._enter(outcome, outcome.agent, is_model=False)
            if outcome.model:
                self._enter(outcome, outcome.model, is_model=True)

    def table(self, kind: str | None = None) -> ScoreTable:
        """Return the rows, discounted up to now: of one kind, or all."""
        wanted = None if kind is None else kind[:MAX_LABEL_CHARS]
        rows = [self._current(row) for row in self._rows.values() if wanted in (None, row.kind)]
        rows.sort(key=_key)
        return ScoreTable(rows=tuple(rows), outcomes=self._outcomes)

    def state(self) -> ScoreboardState:
        """Return all that is to be carried on."""
        rows, batches = tuple(self._rows.values()), tuple(self._batches)
        return ScoreboardState(rows=rows, batches=batches, outcomes=self._outcomes)

    def _enter(self, outcome: Outcome, name: str, *, is_model: bool) -> None:
        kind, name = outcome.kind[:MAX_LABEL_CHARS], name[:MAX_LABEL_CHARS]
        key = (kind, name, is_model)
        row = self._rows.get(key) or ScoreRow(kind=kind, name=name, is_model=is_model, at=self._at(key))
        row = _with(self._current(row), outcome)
        self._put(row.model_copy(update={"at": row.at + 1, "used": self._outcomes}))
        while len(self._rows) > MAX_ROWS:
            self._make_room()

    def _put(self, row: ScoreRow) -> None:
        self._rows[_key(row)] = row
        self._note_latest(row)

    def _at(self, key: _Key) -> int:
        return self._latest.get((key[0], key[2]), 0)

    def _note_latest(self, row: ScoreRow) -> None:
        group = (row.kind, row.is_model)
        self._latest[group] = max(self._latest.get(group, 0), row.at)

    def _current(self, row: ScoreRow) -> ScoreRow:
        """Return a row with the outcomes of others, since its own last, taken into account."""
        now = self._at(_key(row))
        faded = _OTHERS_DISCOUNT ** (now - row.at)
        return row.model_copy(update={"good": row.good * faded, "bad": row.bad * faded, "at": now})

    def _make_room(self) -> None:
        """Add the row that was used longest ago to the one of all others."""
        key = min((each for each in self._rows if each[0] != OTHERS), key=lambda each: self._rows[each].used)
        row = self._rows.pop(key)
        if not any((each[0], each[2]) == (row.kind, row.is_model) for each in self._rows):
            self._latest.pop((row.kind, row.is_model), None)
        others = self._rows.get((OTHERS, OTHERS, row.is_model))
        self._put(_sum(others or ScoreRow(kind=OTHERS, name=OTHERS, is_model=row.is_model), row))


def _key(row: ScoreRow) -> _Key:
    return (row.kind, row.name, row.is_model)


def _with(row: ScoreRow, outcome: Outcome) -> ScoreRow:
    """Return a row with one outcome more."""
    reward = _reward(outcome)
    good, bad = (0.0, 0.0) if reward is None else (reward, 1 - reward)
    changes: dict[str, object] = {
        "good": row.good * _OWN_DISCOUNT + good,
        "bad": row.bad * _OWN_DISCOUNT + bad,
        "successes": row.successes + (outcome.is_success is True),
        "failures": row.failures + (outcome.is_success is False),
    }
    if outcome.score is not None:
        changes |= {"scores": row.scores + 1, "score_sum": row.score_sum + outcome.score}
    if outcome.cost_usd is not None:
        recent = _recent(row.recent_cost_usd, row.costs, outcome.cost_usd)
        changes |= {"costs": row.costs + 1, "cost_usd": row.cost_usd + outcome.cost_usd, "recent_cost_usd": recent}
    if outcome.seconds is not None:
        recent = _recent(row.recent_seconds, row.times, outcome.seconds)
        changes |= {"times": row.times + 1, "seconds": row.seconds + outcome.seconds, "recent_seconds": recent}
    if outcome.note:
        changes["note"] = outcome.note[:_MAX_NOTE_CHARS]
    return row.model_copy(update=changes)


def _reward(outcome: Outcome) -> float | None:
    """Return what an outcome counts, from 0 to 1: failed work nothing, whatever its score."""
    if outcome.is_success is False:
        return 0.0
    return 1.0 if outcome.is_success and outcome.score is None else outcome.score


def _recent(mean: float, count: int, value: float) -> float:
    """Return a mean in which the latest count most: of all at first, then of about the last 40."""
    return mean + (value - mean) * max(1 / (count + 1), 1 - _OWN_DISCOUNT)


_SUMS = ("successes", "failures", "score_sum", "scores", "cost_usd", "costs", "seconds", "times")


def _sum(others: ScoreRow, row: ScoreRow) -> ScoreRow:
    return others.model_copy(update={name: getattr(others, name) + getattr(row, name) for name in _SUMS})
