"""Output formats of the commands that need no server, and of what is printed in parts."""

import io
import json
from datetime import UTC, datetime, timedelta

import pytest
from click.testing import CliRunner
from rich.console import Console

from perdure.cli import cli
from perdure.cli._format import ago, call, clean, duration, one_line, size
from perdure.cli._messages import MessagePrinter
from perdure.client import TranscriptEntry
from perdure.contracts.messages import Message, TextPart, ToolCallPart, tool_message, user_message
from perdure.contracts.usage import Usage
from tests.cli.conftest import Project


def test_agents_as_text(project: Project) -> None:
    lines = project.run("agent", "list").stdout.splitlines()
    assert lines[0].split() == ["AGENT", "MODEL", "TOOLS", "DESCRIPTION"]
    assert lines[1] == "calc   offline:reader  add    Does sums."


def test_agents_as_json(project: Project) -> None:
    listed = json.loads(project.run("agent", "list", "-o", "json").stdout)
    shown = json.loads(project.run("agent", "show", "calc", "-o", "json").stdout)
    lines = project.run("agent", "list", "-o", "jsonl").stdout.splitlines()
    assert listed == [shown] == [json.loads(line) for line in lines]
    assert shown["tools"][0]["name"] == "add"


def test_an_agent_as_text(project: Project) -> None:
    shown = project.run("agent", "show", "calc").stdout
    assert "instructions  You do sums.\n" in shown
    assert "tool add      (a, b) [idempotent, local] Add two numbers.\n" in shown


def test_doctor_tells_settings_and_sources(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEMPORAL_ADDRESS", "127.0.0.1:1")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret")
    monkeypatch.setenv("PERDURE_TASK_QUEUE", "other")
    result = project.run("doctor", "-o", "json")
    assert result.exit_code == 3
    assert "sk-very-secret" not in result.output
    found = {each["name"]: each for each in json.loads(result.stdout)}
    assert found["task_queue"]["value"] == "other"
    assert found["task_queue"]["source"] == "environment PERDURE_TASK_QUEUE"
    assert found["openai"]["value"] == "OPENAI_API_KEY is set"
    assert found["OrderFlow"]["status"] == found["AgentWorkflow"]["status"] == "ok"
    assert found["Temporal"]["exit_code"] == 3


def test_doctor_names_what_a_workflow_must_not_do(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEMPORAL_ADDRESS", "127.0.0.1:1")
    project.write(
        "from pathlib import Path\nfrom temporalio import workflow\nfrom perdure import App\n"
        "Path(__file__).read_text()\n"
        "@workflow.defn\nclass Reads:\n    @workflow.run\n    async def run(self) -> None: ...\n"
        "app = App(workflows=[Reads])\n"
    )
    result = project.run("doctor")
    assert result.exit_code == 4
    line = next(line for line in result.stdout.splitlines() if "Reads" in line and "problem" in line)
    assert "pathlib.Path.read_text" in line


def test_piped_output_has_no_colour_and_is_not_wrapped(project: Project) -> None:
    result = CliRunner().invoke(cli, ["doctor", "--app", "x" * 200 + ":app"])
    assert "\x1b" not in result.stdout
    assert any(len(line) > 200 for line in result.stdout.splitlines())
    assert not any(line.endswith(" ") for line in result.stdout.splitlines())


def printed(entries: list[TranscriptEntry], *, is_full: bool) -> str:
    out = io.StringIO()
    MessagePrinter(Console(file=out, width=1000), is_full=is_full).print_all(entries)
    return out.getvalue()


def conversation() -> list[TranscriptEntry]:
    asked = ToolCallPart(id="1", name="add", arguments='{"a": 1, "b": 2}')
    assistant = Message(role="assistant", parts=(TextPart(text="I add."), asked), model="offline:reader")
    answer = tool_message(asked, "first\nsecond \x1b[31mred", outcome="error")
    messages = [user_message("what is\n1 + 2?"), assistant, answer]
    usage = Usage(input_tokens=10, output_tokens=2)
    return [
        TranscriptEntry(slot=slot, message=message, usage=usage if message.role == "assistant" else None)
        for slot, message in enumerate(messages)
    ]


def test_a_conversation_in_short() -> None:
    assert printed(conversation(), is_full=False).splitlines() == [
        "user       what is 1 + 2?",
        "turn 1     I add.",
        "           → add(a=1, b=2)",
        "  add      error: first second [31mred",
    ]


def test_a_conversation_in_full() -> None:
    assert printed(conversation(), is_full=True).splitlines() == [
        "user       what is",
        "           1 + 2?",
        "turn 1     I add.",
        "           → add(a=1, b=2)",
        "           offline:reader · 10 tokens in, 2 out",
        "  add      error: first",
        "           second [31mred",
    ]


def test_values_as_people_read_them() -> None:
    assert [size(number) for number in (7, 1500, 2_500_000)] == ["7 B", "1.5 kB", "2.5 MB"]
    times = [duration(timedelta(seconds=seconds)) for seconds in (0.52, 42, 61, 120, 3700, 90_000)]
    assert times == ["0.5 s", "42 s", "1 min 1 s", "2 min", "1 h 1 min", "1 d 1 h"]
    now = datetime.now(UTC)
    past = [ago(now - timedelta(seconds=seconds)) for seconds in (1, 30, 600, 7300, 200_000)]
    assert past == ["just now", "30 s ago", "10 min ago", "2 h ago", "2 d ago"]
    assert one_line("a\n b" * 100, 10) == "a ba ba b…"
    assert clean("a\x1b]0;title\x07b\n") == "a]0;titleb\n"
    assert call("f", "not json") == "f(not json)"
