"""`perdure score` and `perdure scoreboard` without a server: bad input, and how a table reads."""

import json

import pytest

from perdure.cli._render import print_items
from perdure.cli._scores import print_judgement, print_table_of
from perdure.contracts.scores import Outcome, ScoreRow, ScoreTable
from tests.cli.conftest import Project

ROWS = (
    ScoreRow(kind="", name="writer", successes=2, failures=1, good=1.5, bad=0.5),
    ScoreRow(
        kind="facts",
        name="openai:gpt-5-mini",
        is_model=True,
        successes=3,
        good=3,
        scores=2,
        score_sum=1.5,
        costs=3,
        cost_usd=0.03,
        times=2,
        seconds=5,
        note="too\nlong",
    ),
)


@pytest.mark.parametrize("score", ["1.1", "-1", "-0.5", "nan", "inf", "good", ""])
def test_a_bad_score_is_refused_before_anything_is_asked(
    project: Project, monkeypatch: pytest.MonkeyPatch, score: str
) -> None:
    monkeypatch.setenv("TEMPORAL_ADDRESS", "127.0.0.1:1")
    told = project.fail("score", "run-1", score, code=2)
    assert "Invalid value for 'SCORE'" in told


def test_a_score_is_needed(project: Project) -> None:
    assert "Missing argument 'SCORE'" in project.fail("score", "run-1", code=2)


@pytest.mark.parametrize("args", [("score", "run-1", "0.5"), ("scoreboard",)])
def test_without_a_server_it_says_so(
    project: Project, monkeypatch: pytest.MonkeyPatch, args: tuple[str, ...]
) -> None:
    monkeypatch.setenv("TEMPORAL_ADDRESS", "127.0.0.1:1")
    assert "127.0.0.1:1" in project.fail(*args, code=3)


def test_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    print_table_of(ScoreTable(rows=ROWS))
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        ["KIND", "AGENT", "OR", "MODEL", "DONE", "FAILED", "RECENT", "SCORE", "COST", "SECONDS", "NOTE"],
        ["-", "writer", "2", "1", "0.75", "-", "-", "-"],
        ["facts", "openai:gpt-5-mini", "3", "0", "1.00", "0.75", "(2)", "$0.0100", "2.5", "too", "long"],
    ]


def test_rows_are_whole_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    print_items(ROWS, "jsonl")
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert (first["name"], first["scores"], second["is_model"]) == ("writer", 0, True)


def test_an_empty_table_is_no_error(capsys: pytest.CaptureFixture[str]) -> None:
    print_table_of(ScoreTable())
    assert capsys.readouterr() == ("", "No outcomes yet.\n")


def test_a_judgement_is_confirmed(capsys: pytest.CaptureFixture[str]) -> None:
    outcome = Outcome(agent="writer", kind="facts", score=0.5)
    print_judgement(outcome, "text")
    assert capsys.readouterr() == ("", "Scored writer 0.5 for facts.\n")
    print_judgement(outcome, "json")
    assert json.loads(capsys.readouterr().out)["score"] == 0.5
