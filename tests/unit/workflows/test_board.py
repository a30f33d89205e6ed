"""The scoreboard's table: what an outcome changes, what is forgotten, and that it stays small."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.contracts.scores import (
    MAX_ROWS,
    OTHERS,
    Outcome,
    OutcomeBatch,
    ScoreboardState,
    ScoreRow,
)
from perdure.workflows._board import Board
from tests.unit.contracts.strategies import contracts

outcome_batches: st.SearchStrategy[OutcomeBatch] = contracts(OutcomeBatch)


def board(*outcomes: Outcome, id: str = "1") -> Board:
    made = Board(ScoreboardState())
    made.add(OutcomeBatch(id=id, outcomes=outcomes))
    return made


def done(agent: str = "a", **fields: object) -> Outcome:
    return Outcome.model_validate({"agent": agent, "kind": "k", "is_success": True, **fields})


def row(found: Board, name: str = "a", *, is_model: bool = False) -> ScoreRow:
    return next(each for each in found.table().rows if (each.name, each.is_model) == (name, is_model))


def test_a_row_adds_up_what_came() -> None:
    found = row(
        board(
            done(cost_usd=0.1, seconds=2, score=0.5),
            done(cost_usd=0.3, seconds=4),
            done(is_success=False, note="too short"),
        )
    )
    assert (found.successes, found.failures, found.scores, found.costs, found.times) == (2, 1, 1, 2, 2)
    assert found.mean_cost_usd == pytest.approx(0.2)
    assert (found.mean_score, found.mean_seconds, found.note) == (0.5, 3, "too short")
    assert found.good == pytest.approx((0.5 * 0.975 + 1) * 0.975)
    assert found.bad == pytest.approx(0.5 * 0.975 * 0.975 + 1)


def test_models_have_rows_of_their_own() -> None:
    found = board(done(model="x:one"), done(model="x:two"), done(model="x:two", is_success=False))
    assert (row(found).successes, row(found).failures) == (2, 1)
    assert row(found, "x:one", is_model=True).successes == 1
    assert row(found, "x:two", is_model=True).failures == 1


def test_kinds_are_apart() -> None:
    found = board(done(kind="x"), done(kind="y", is_success=False))
    assert [(each.kind, each.successes) for each in found.table().rows] == [("x", 1), ("y", 0)]
    assert [each.kind for each in found.table("y").rows] == ["y"]
    assert found.table("y").outcomes == 2


def test_a_judgement_is_no_end_of_a_run() -> None:
    found = row(board(done(), done(is_success=None, score=0.25)))
    assert (found.successes, found.failures, found.scores) == (1, 0, 1)
    assert (found.good, found.bad) == (pytest.approx(0.975 + 0.25), pytest.approx(0.75))


def test_a_failure_is_one_whatever_its_score() -> None:
    assert row(board(done(is_success=False, score=1))).good == 0


def test_others_fade_slowly() -> None:
    found = board(done(), *[done("b") for _ in range(10)])
    assert row(found).good == pytest.approx(0.995**10)
    assert row(found, "b").good == pytest.approx(sum(0.975**n for n in range(10)))


def test_a_batch_counts_once() -> None:
    found = board(done(), id="same")
    found.add(OutcomeBatch(id="same", outcomes=(done(),)))
    assert row(found).successes == 1
    found.add(OutcomeBatch(id="other", outcomes=(done(),)))
    assert row(found).successes == 2


@given(st.lists(outcome_batches, max_size=6))
def test_a_successor_knows_the_same(batches: list[OutcomeBatch]) -> None:
    """Whatever comes is taken, and a board that goes on from another's state can't be told from it."""
    whole = Board(ScoreboardState())
    handed = Board(ScoreboardState())
    for batch in batches:
        whole.add(batch)
        handed = Board(ScoreboardState.model_validate_json(handed.state().to_bytes()))
        handed.add(batch)
    assert handed.state() == whole.state()
    assert handed.table() == whole.table()


def test_it_stays_small_and_nothing_is_lost_from_the_sums() -> None:
    found = Board(ScoreboardState())
    for n in range(2000):
        found.add(OutcomeBatch(id=str(n), outcomes=(done(f"a{n}", kind="k" * 300, cost_usd=1, model="m" * 300),)))
    state = found.state()
    assert len(state.rows) <= MAX_ROWS
    assert len(state.to_bytes()) < 250_000
    agents = [each for each in found.table().rows if not each.is_model]
    assert sum(each.successes for each in agents) == 2000
    assert next(each for each in agents if each.name == OTHERS).cost_usd > 1000
    assert any(each.name == "a1999" for each in agents)
    assert not any(each.name == "a0" for each in agents)
