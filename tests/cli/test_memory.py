"""Output formats of what agents remember."""

import json
from datetime import UTC, datetime

import pytest

from perdure.cli._memories import print_forgotten, print_memory
from perdure.contracts.memory import MemoryEntry, MemoryView

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
ENTRY = MemoryEntry(key="home", text="Lives in\nOslo.\x1b[31m", at=AT, workflow_id="clerk-1", recalls=2)
VIEW = MemoryView(entries=(ENTRY,), bytes=120, max_bytes=100_000, dropped=2)


def test_text(capsys: pytest.CaptureFixture[str]) -> None:
    print_memory(VIEW, "text")
    shown = capsys.readouterr()
    assert shown.out.splitlines()[0].split() == ["KEY", "REMEMBERED", "EXPIRES", "RECALLS", "BY", "TEXT"]
    assert shown.out.splitlines()[1].split() == [
        *("home", "2026-01-02", "03:04:05Z", "never", "2", "clerk-1", "Lives", "in", "Oslo.[31m"),
    ]
    assert shown.err == "120 B of 100.0 kB, 2 entries made room\n"


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    print_memory(VIEW, "json")
    assert json.loads(capsys.readouterr().out)["entries"][0]["recalls"] == 2
    print_memory(VIEW, "jsonl")
    assert json.loads(capsys.readouterr().out)["key"] == "home"


def test_forgotten(capsys: pytest.CaptureFixture[str]) -> None:
    print_forgotten(("home",), ("home", "job"), "text")
    assert capsys.readouterr() == ("home\n", "There was nothing under the key 'job'.\n")
    print_forgotten(("home",), (), "json")
    assert json.loads(capsys.readouterr().out) == ["home"]
