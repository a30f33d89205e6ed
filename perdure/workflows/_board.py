"""`Board`: the scoreboard's table, and how an outcome changes it. Workflow side; pure.

`good` and `bad` of a row are what `learned` draws from: the parameters of a Beta distribution, less its prior of
one each. An outcome adds to them a success of 1, a failure of 0, or the score between; and it discounts what was
there, so that an agent which has changed is noticed: discounted Thompson sampling, after V. Raj and S. Kalyani,
"Taming Non-stationary Bandits: A Bayesian Approach" (arXiv:1707.09727). With an agent's own outcome its row fades
to `_OWN_DISCOUNT` (what counts is about its last 40), with that of another agent of the same kind of work to
`_OTHERS_DISCOUNT` only: who isn't chosen is forgotten slowly, and is tried again in the end.
"""

from collections import Counter

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
_Group = tuple[str, bool]
"""Agents, or models, at one kind of work."""


class Board:
    """Rows by kind and by agent or model."""

    def __init__(self, state: ScoreboardState) -> None:
        """Go on from what a predecessor knew."""
        self._rows: dict[_Key, ScoreRow] = {}  # who was used longest ago comes first
        self._batches: dict[str, None] = dict.fromkeys(state.batches)
        self._outcomes = state.outcomes
        self._latest: dict[_Group, int] = {}
        self._sizes: Counter[_Group] = Counter()
        for row in state.rows:
            self._put(row)

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
        rows = [
            _faded(row, self._latest[_group(row)]) for row in self._rows.values() if wanted in (None, row.kind)
        ]
        rows.sort(key=_key)
        return ScoreTable(rows=tuple(rows), outcomes=self._outcomes)

    def state(self) -> ScoreboardState:
        """Return all that is to be carried on."""
        rows, batches = tuple(self._rows.values()), tuple(self._batches)
        return ScoreboardState(rows=rows, batches=batches, outcomes=self._outcomes)

    def _enter(self, outcome: Outcome, name: str, *, is_model: bool) -> None:
        kind, name = outcome.kind[:MAX_LABEL_CHARS], name[:MAX_LABEL_CHARS]
        row = self._take((kind, name, is_model))
        now = self._latest.get(_group(row), 0)
        self._put(_with(_faded(row, now), outcome, now + 1))
        while len(self._rows) > MAX_ROWS:
            self._make_room()

    def _take(self, key: _Key) -> ScoreRow:
        """Return a row, and have it in the table no more; an empty one where there is none."""
        kind, name, is_model = key
        row = self._rows.pop(key, None)
        if row is None:
            return ScoreRow(kind=kind, name=name, is_model=is_model, at=self._latest.get((kind, is_model), 0))
        self._sizes[_group(row)] -= 1
        return row

    def _put(self, row: ScoreRow) -> None:
        """Enter a row that isn't in the table, as the one that was used last."""
        group = _group(row)
        self._rows[_key(row)] = row
        self._sizes[group] += 1
        self._latest[group] = max(self._latest.get(group, 0), row.at)

    def _make_room(self) -> None:
        """Add the row that was used longest ago to the one of all others."""
        row = self._take(next(key for key in self._rows if key[0] != OTHERS))
        if not self._sizes[_group(row)]:
            del self._sizes[_group(row)], self._latest[_group(row)]
        self._put(_sum(self._take((OTHERS, OTHERS, row.is_model)), row))


def _group(row: ScoreRow) -> _Group:
    return (row.kind, row.is_model)


def _key(row: ScoreRow) -> _Key:
    return (row.kind, row.name, row.is_model)


def _faded(row: ScoreRow, now: int) -> ScoreRow:
    """Return a row with the outcomes of others, since its own last, taken into account."""
    if row.at == now:
        return row
    rest = _OTHERS_DISCOUNT ** (now - row.at)
    return row.model_copy(update={"good": row.good * rest, "bad": row.bad * rest, "at": now})


def _with(row: ScoreRow, outcome: Outcome, at: int) -> ScoreRow:
    """Return a row with one outcome more."""
    reward = _reward(outcome)
    good, bad = (0.0, 0.0) if reward is None else (reward, 1 - reward)
    changes: dict[str, object] = {
        "good": row.good * _OWN_DISCOUNT + good,
        "bad": row.bad * _OWN_DISCOUNT + bad,
        "successes": row.successes + (outcome.is_success is True),
        "failures": row.failures + (outcome.is_success is False),
        "at": at,
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
