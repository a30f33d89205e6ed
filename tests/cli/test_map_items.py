"""`perdure map`: what its items are, and how outcomes are printed."""

import json

import pytest

from perdure.cli._mapping import parse_items, progress_text
from perdure.cli._outcome import print_outcomes
from perdure.contracts.map import MapFailure, MapOutcome, MapProgress, MapResult
from perdure.contracts.messages import TextPart
from perdure.errors import InvalidInputError


@pytest.mark.parametrize(
    ("text", "items"),
    [
        ("one\ntwo\n\nthree", ["one", "two", "three"]),
        ('["one", "two"]', ["one", "two"]),
        ('[{"sku": "é"}, 3]', ['{"sku": "é"}', "3"]),
        ('[[{"kind": "text", "text": "x"}]]', [(TextPart(text="x"),)]),
        ("[no json\nat all", ["[no json", "at all"]),
        ("one\r\ntwo\r\n", ["one", "two"]),
        ('{"a": "x\u2028y"}\npage\x0cbreak\nne\x85xt', ['{"a": "x\u2028y"}', "page\x0cbreak", "ne\x85xt"]),
    ],
)
def test_items(text: str, items: list[object]) -> None:
    assert parse_items(text) == items


@pytest.mark.parametrize("text", ["", " \n\n", "[]"])
def test_there_must_be_items(text: str) -> None:
    with pytest.raises(InvalidInputError, match="There are no items"):
        parse_items(text)


def test_progress_is_told_in_words() -> None:
    assert progress_text(MapProgress(total=1000, done=5, running=2)) == "5 of 1,000 done · 2 running"
    assert progress_text(MapProgress(total=9, done=5, failed=1)) == "5 of 9 done · 1 failed · 0 running"


RESULT = MapResult(
    agent="a",
    total=3,
    failed=1,
    outcomes=(
        MapOutcome(index=0, output="text"),
        MapOutcome(index=1, failure=MapFailure(type="LimitExceeded", message="item 1: too much")),
        MapOutcome(index=2, output={"a": 1}),
    ),
)


def test_text_has_outputs_alone(capsys: pytest.CaptureFixture[str]) -> None:
    print_outcomes(RESULT, "text")
    printed = capsys.readouterr()
    assert printed.out == 'text\n{\n  "a": 1\n}\n'
    assert printed.err.startswith("LimitExceeded: item 1: too much\n2 done · 1 failed · ")


def test_json_has_everything(capsys: pytest.CaptureFixture[str]) -> None:
    print_outcomes(RESULT, "json")
    assert json.loads(capsys.readouterr().out)["outcomes"][1]["failure"]["type"] == "LimitExceeded"
    print_outcomes(RESULT, "jsonl")
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["index"] for line in lines] == [0, 1, 2]
