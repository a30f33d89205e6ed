"""Choosing an agent by what became of earlier work: Thompson sampling. Both sides; all chance is in a generator.

Of each candidate a probability of success θ is drawn from Beta(1 + good, 1 + bad), with the row's discounted
successes and failures, and the candidate with the highest value is chosen:

    value = θ - cost_weight x mean cost in dollars - seconds_weight x mean seconds

Who has seldom been tried is drawn from a wide distribution, and so gets its chance; who is known to be worse,
rarely does (W. R. Thompson, Biometrika 25, 1933; S. Agrawal and N. Goyal, "Analysis of Thompson Sampling for the
Multi-armed Bandit Problem", arXiv:1111.1797). A cost or time that isn't known is taken to be the mean of the
others'.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

from perdure.contracts.scores import ScoreRow
from perdure.contracts.selection import Selection, SelectRequest

_MAX_TOLD = 4


@dataclass(frozen=True)
class _Draw:
    row: ScoreRow
    chance: float
    value: float


def choose_by_draw(request: SelectRequest, rows: Sequence[ScoreRow], random: Random) -> Selection:
    """Return the candidate with the highest value.

    Args:
        request: The weights, and the kind.
        rows: One for each candidate; an empty one for who has not been tried. At least one.
        random: Where the draws come from.
    """
    cost = _estimate(rows, lambda row: row.recent_cost_usd if row.costs else None)
    seconds = _estimate(rows, lambda row: row.recent_seconds if row.times else None)
    draws: list[_Draw] = []
    for row in rows:
        chance = random.betavariate(1 + row.good, 1 + row.bad)
        value = chance - request.cost_weight * cost(row) - request.seconds_weight * seconds(row)
        draws.append(_Draw(row, chance, value))
    best = max(draws, key=lambda draw: draw.value)  # the first of equals
    return Selection(agent=best.row.name, strategy="learned", kind=request.kind, why=_why(request, best, draws))


def _estimate(rows: Sequence[ScoreRow], of: Callable[[ScoreRow], float | None]) -> Callable[[ScoreRow], float]:
    known = [value for row in rows if (value := of(row)) is not None]
    mean = sum(known) / len(known) if known else 0.0

    def estimate(row: ScoreRow) -> float:
        value = of(row)
        return mean if value is None else value

    return estimate


def _why(request: SelectRequest, best: _Draw, draws: Sequence[_Draw]) -> str:
    row = best.row
    known = f"{row.good:.1f} good and {row.bad:.1f} bad" if row.good + row.bad else "not tried yet"
    cost = f" at ${row.recent_cost_usd:.4f}" if row.costs and request.cost_weight else ""
    time = f" in {row.recent_seconds:.1f} s" if row.times and request.seconds_weight else ""
    others = sorted((draw for draw in draws if draw is not best), key=lambda draw: -draw.value)
    told = ", ".join(f"{draw.row.name} {draw.value:.2f}" for draw in others[:_MAX_TOLD])
    more = f" and {len(others) - _MAX_TOLD} more" if len(others) > _MAX_TOLD else ""
    before = f"; before {told}{more}" if told else ""
    return f"value {best.value:.2f}, success {best.chance:.2f} drawn ({known}){cost}{time}{before}"
