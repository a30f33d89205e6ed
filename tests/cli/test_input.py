"""INPUT, ARGS, `--limit` and `--context`: how what the user typed is read."""

import io
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import BaseModel
from temporalio import workflow

from perdure.cli._input import (
    agent_input,
    parse_args,
    parse_context,
    parse_limits,
    read_input,
    workflow_args,
)
from perdure.contracts.messages import ImagePart, TextPart
from perdure.errors import InvalidInputError


class Order(BaseModel):
    sku: str


@workflow.defn
class OfModel:
    @workflow.run
    async def run(self, order: Order) -> None: ...


@workflow.defn
class OfText:
    @workflow.run
    async def run(self, text: str) -> None: ...


@workflow.defn
class OfTwo:
    @workflow.run
    async def run(self, count: int, order: Order) -> None: ...


@workflow.defn
class OfNothing:
    @workflow.run
    async def run(self) -> None: ...


@workflow.defn
class OfAnything:
    @workflow.run
    async def run(self, value: Any) -> None: ...


def test_text_file_and_stdin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "question.md").write_text("# Why?\n")
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(b"from stdin\n")))
    assert read_input("plain") == "plain"
    assert read_input(f"@{tmp_path}/question.md") == "# Why?"
    assert read_input("-") == "from stdin"
    assert read_input("@@alice said") == "@alice said"


def test_an_agent_takes_text_or_parts() -> None:
    assert agent_input('{"a": 1}') == '{"a": 1}'
    assert agent_input("[1, 2]") == "[1, 2]"
    assert agent_input("[not json") == "[not json"
    parts = agent_input('[{"kind": "text", "text": "see"}, {"kind": "image", "url": "https://x/y.png"}]')
    assert parts == (TextPart(text="see"), ImagePart(url="https://x/y.png"))


@pytest.mark.parametrize(
    ("cls", "text", "args"),
    [
        (OfModel, '{"sku": "a"}', [Order(sku="a")]),
        (OfText, "hello", ["hello"]),
        (OfText, '"hello"', ["hello"]),
        (OfText, "12", ["12"]),
        (OfTwo, '[1, {"sku": "a"}]', [1, Order(sku="a")]),
        (OfNothing, None, []),
        (OfAnything, '{"a": 1}', [{"a": 1}]),
        (OfAnything, "text", ["text"]),
    ],
)
def test_workflow_arguments(cls: type, text: str | None, args: list[Any]) -> None:
    assert workflow_args("w", cls, text) == args


@pytest.mark.parametrize(("cls", "text"), [(OfTwo, "[1, 2, 3]"), (OfTwo, "x"), (OfNothing, "x"), (OfModel, "{")])
def test_workflow_arguments_that_do_not_fit(cls: type, text: str) -> None:
    with pytest.raises(InvalidInputError, match="'w'"):
        workflow_args("w", cls, text)


def test_limits() -> None:
    limits = parse_limits(["max_turns=5", "wall_clock_seconds=90", "max_cost_usd=0.5"])
    assert limits is not None
    assert (limits.max_turns, limits.wall_clock) == (5, timedelta(seconds=90))
    assert parse_limits([]) is None


def test_context_and_args() -> None:
    assert parse_context(["who=me", "n=3", 'x={"a": 1}', "eq=a=b"]) == {
        "who": "me",
        "n": 3,
        "x": {"a": 1},
        "eq": "a=b",
    }
    assert parse_args(["text", "1", "true", "[1]"]) == ["text", 1, True, [1]]
