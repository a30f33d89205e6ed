"""Figure 8: `learned` finds the better value, notices a change, and forgets nothing over a restart.

`pytest -s tests/unit/agents/test_sampling.py` prints the figures.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import pytest

from perdure.agents.sampling import choose_by_draw
from perdure.contracts.scores import Outcome, OutcomeBatch, ScoreboardState, ScoreRow
from perdure.contracts.selection import SelectRequest
from perdure.workflows._board import Board

SEEDS = range(20)
TASKS = 300


@dataclass(frozen=True)
class Simulated:
    """An agent as it is; only its outcomes are seen."""

    name: str
    success: float
    cost_usd: float


def run(
    agents: Sequence[Simulated], count: int, seed: int, *, board: Board | None = None, restart_every: int = 0
) -> tuple[list[str], Board]:
    """Let `learned` choose for so many tasks, one after another."""
    random = Random(seed)
    board = board or Board(ScoreboardState())
    request = SelectRequest(strategy="learned", kind="k")
    by_name = {agent.name: agent for agent in agents}
    chosen: list[str] = []
    for number in range(count):
        known = {row.name: row for row in board.table("k").rows}
        rows = [known.get(agent.name) or ScoreRow(name=agent.name) for agent in agents]
        agent = by_name[choose_by_draw(request, rows, random).agent]
        chosen.append(agent.name)
        outcome = Outcome(
            agent=agent.name, kind="k", is_success=random.random() < agent.success, cost_usd=agent.cost_usd
        )
        board.add(OutcomeBatch(id=f"{seed}-{count}-{number}", outcomes=(outcome,)))
        if restart_every and number % restart_every == 0:
            board = Board(ScoreboardState.model_validate_json(board.state().to_bytes()))
    return chosen, board


GOOD, CHEAP = Simulated("good", 0.9, 0.05), Simulated("cheap", 0.6, 0.01)
DEAR = Simulated("good", 0.9, 0.50)
"""At a dollar a success: 0.9 - 0.05 is more than 0.6 - 0.01, but 0.9 - 0.50 is less."""


@pytest.mark.parametrize(
    ("agents", "better"), [((GOOD, CHEAP), "good"), ((DEAR, CHEAP), "cheap")], ids=["quality", "cost"]
)
def test_the_better_value_is_chosen(agents: Sequence[Simulated], better: str) -> None:
    shares = sorted(run(agents, TASKS, seed)[0][-100:].count(better) for seed in SEEDS)
    print(f"\nbetter value in the last 100 of {TASKS}: median {shares[10]} %, least {shares[0]} %; all {shares}")
    assert sum(share >= 85 for share in shares) >= 18


@pytest.mark.parametrize(
    "after",
    [(Simulated("good", 0.3, 0.05), CHEAP), (Simulated("good", 0.6, 0.05), Simulated("cheap", 0.9, 0.01))],
    ids=["it got worse", "they changed places"],
)
def test_it_switches_when_the_better_turns_worse(after: Sequence[Simulated]) -> None:
    """Switched is: chosen in 16 of 20 tasks in a row, the first of them within 100 tasks of the change."""
    switched: list[int] = []
    for seed in SEEDS:
        _, board = run((GOOD, CHEAP), TASKS, seed)
        chosen, _ = run(after, 200, 1000 + seed, board=board)
        windows = (n for n in range(len(chosen) - 20) if chosen[n : n + 20].count("cheap") >= 16)
        switched.append(next(windows, len(chosen)))
    switched.sort()
    print(f"\ntasks until it switched: median {switched[10]}, most {switched[-1]}; all {switched}")
    assert sum(tasks <= 100 for tasks in switched) >= 18


def test_restarts_change_nothing() -> None:
    straight, board = run((GOOD, CHEAP), TASKS, 1)
    restarted, other = run((GOOD, CHEAP), TASKS, 1, restart_every=7)
    assert restarted == straight
    assert other.table() == board.table()


def rows(**known: ScoreRow) -> list[ScoreRow]:
    return [row.model_copy(update={"name": name}) for name, row in known.items()]


def test_the_same_seed_draws_the_same() -> None:
    request, known = (
        SelectRequest(),
        rows(a=ScoreRow(name="", good=3), b=ScoreRow(name="", bad=3), c=ScoreRow(name="")),
    )
    assert choose_by_draw(request, known, Random("x")) == choose_by_draw(request, known, Random("x"))


def test_who_is_new_gets_a_chance() -> None:
    known = rows(old=ScoreRow(name="", good=5, bad=5), new=ScoreRow(name=""))
    chosen = {choose_by_draw(SelectRequest(), known, Random(seed)).agent for seed in range(50)}
    assert chosen == {"old", "new"}


def test_weights_are_what_a_dollar_and_a_second_count() -> None:
    sure = {"good": 1e6, "costs": 1, "times": 1}
    known = rows(
        dear=ScoreRow.model_validate({"name": "", **sure, "recent_cost_usd": 2.0, "recent_seconds": 1.0}),
        slow=ScoreRow.model_validate({"name": "", **sure, "recent_cost_usd": 1.0, "recent_seconds": 100.0}),
    )

    by_cost, by_both = SelectRequest(cost_weight=1), SelectRequest(cost_weight=1, seconds_weight=0.1)
    assert choose_by_draw(by_cost, known, Random(0)).agent == "slow"
    assert choose_by_draw(by_both, known, Random(0)).agent == "dear"


def test_an_unknown_cost_is_taken_for_that_of_the_others() -> None:
    """Otherwise whoever has no price would be free, and always chosen."""
    sure = {"good": 1e6}
    known = rows(
        unpriced=ScoreRow.model_validate({"name": "", "good": 0.6e6, "bad": 0.4e6}),
        priced=ScoreRow.model_validate({"name": "", **sure, "costs": 1, "recent_cost_usd": 5.0}),
    )
    assert choose_by_draw(SelectRequest(), known, Random(0)).agent == "priced"


def test_it_says_why() -> None:
    known = rows(
        a=ScoreRow(name="", good=8, bad=2, costs=1, recent_cost_usd=0.05),
        **{f"b{n}": ScoreRow(name="", bad=50) for n in range(6)},
    )
    chosen = choose_by_draw(SelectRequest(kind="k"), known, Random(0))
    assert (chosen.agent, chosen.strategy, chosen.kind) == ("a", "learned", "k")
    assert "(8.0 good and 2.0 bad) at $0.0500; before b" in chosen.why
    assert chosen.why.endswith(" and 2 more")
