"""A timeline as it is printed."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from perdure.cli._trace import print_trace, rows_of
from perdure.cli._written import write_page
from perdure.client import ChainLink, Step, Timeline
from perdure.errors import InvalidInputError
from tests.support.histories import stored

AT = datetime(2026, 1, 1, tzinfo=UTC)


def step(kind: str, name: str, *, at: float = 0, took: float = 1, **facts: object) -> Step:
    begun = AT + timedelta(seconds=at)
    known = {"kind": kind, "name": name, "started_at": begun, "ended_at": begun + timedelta(seconds=took)}
    return Step.model_validate({"outcome": "ok", "event_id": int(at * 10) + 1, **known, **facts})


def made(*steps: Step, **facts: object) -> Timeline:
    link = ChainLink(run_id="r", started_at=AT, events=3, outcome="ok")
    known = {"workflow_id": "w", "run_id": "r", "workflow": "Nightly", "status": "completed", "links": (link,)}
    times = {"started_at": AT, "closed_at": AT + timedelta(seconds=100), "read_at": AT}
    return Timeline.model_validate({**known, **times, "steps": steps, **facts})


def printed(timeline: Timeline, capsys: pytest.CaptureFixture[str], output: str = "text") -> str:
    print_trace(timeline, output)
    return capsys.readouterr().out


async def test_an_agents_run(capsys: pytest.CaptureFixture[str]) -> None:
    lines = [" ".join(line.split()) for line in printed(await stored("tools-0"), capsys).splitlines()]
    assert lines[:5] == [
        "run w",
        "status completed",
        "agent plain",
        "time 1.0 s",
        "used 2 turns · 4 tool calls · 307 tokens · unknown",
    ]
    assert lines[6] == "AT TIME TOKENS COST WHAT"
    assert any(line.endswith("24 unknown turn 1 scripted:x") for line in lines)
    assert any(line.endswith("├─ fail() an error") for line in lines)
    assert any(line.startswith("TOOL CALLS BAD") for line in lines)


async def test_as_json_and_as_lines(capsys: pytest.CaptureFixture[str]) -> None:
    timeline = await stored("tools-0")
    told = json.loads(printed(timeline, capsys, "json"))
    assert told["timeline"]["steps"][1]["steps"][0]["kind"] == "model"
    assert told["totals"]["own"]["tool_calls"] == 4
    steps = [json.loads(line) for line in printed(timeline, capsys, "jsonl").splitlines()]
    assert len(steps) == 9, "every step, also the model call that is in its turn's line in a text"
    assert {each["run"] for each in steps} == {"w"}


def test_what_went_wrong_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    call = step("model", "m", attempts=3, failure="ModelCallError: 503 \x1b[31mred")
    timeline = made(
        step("turn", "turn 1", model="m", steps=(call,), problem="no JSON"),
        step("task", "workflow task", at=2, outcome="timed_out", failure="the worker didn't finish it"),
        step("update", "perdure.new", at=3, outcome="failed", failure="no"),
        step("of the future", "x\ny", at=4, outcome="weird"),
        step("wait", "waiting_limit", at=5),
        failure="LimitExceeded: max_turns=1",
        unread=2,
    )
    text = printed(timeline, capsys)
    assert "turn 1  m  3 attempts  ModelCallError: 503 [31mred  can't be used: no JSON" in text
    assert "workflow task  timed out  the worker didn't finish it" in text
    assert "update perdure.new  failed  no" in text
    assert "x y  weird" in text
    assert "waits for a limit" in text
    assert "LimitExceeded: max_turns=1" in text
    assert "2 contents could not be decoded" in text
    assert "\x1b" not in text


def test_crowds_are_told_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    signals = [step("signal", "perdure.lease", at=n / 10, took=0) for n in range(12)]
    outcomes = ["failed" if n == 400 else "ok" for n in range(500)]
    children = [
        step("child", f"c-{n}", at=2 + n, outcome=outcome, workflow_id=f"w/c-{n}")
        for n, outcome in enumerate(outcomes)
    ]
    timeline = made(*signals, *children)
    lines = printed(timeline, capsys).splitlines()
    assert any(line.endswith("signal perdure.lease (12 times)") for line in lines)
    shown = [line for line in lines if " c-" in line]
    assert len(shown) == 20
    assert any("c-400" in line and "failed" in line for line in shown), "what is in trouble comes first"
    assert any(line.endswith("… 480 more child runs: 480 completed") for line in lines)
    print_trace(timeline, "text", is_all=True)
    assert capsys.readouterr().out.count(" c-") == 500


def test_child_runs_that_were_read_are_drawn_below_their_line() -> None:
    inner = made(step("turn", "turn 1"), step("turn", "turn 2", at=1), workflow_id="w/c")
    rows = [*rows_of(made(step("child", "c", below=inner), step("timer", "timer", at=3)))]
    assert [(row.indent, row.step.name, row.run) for row in rows] == [
        ("", "c", "w"),
        ("├─ ", "turn 1", "w/c"),
        ("└─ ", "turn 2", "w/c"),
        ("", "timer", "w"),
    ]


def test_a_page_is_written_where_it_is_wanted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_page("<p>x</p>", None, "a/b ../c", "text")
    assert [path.name for path in tmp_path.iterdir()] == ["a-b-..-c.html"]
    write_page("<p>y</p>", "here.html", "w", "json")
    assert Path("here.html").read_text() == "<p>y</p>"
    with pytest.raises(InvalidInputError, match="Choose another by --out"):
        write_page("", "nowhere/run.html", "w", "text")
