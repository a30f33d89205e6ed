"""What goes wrong before a run starts: one clear line, the right exit code, no traceback."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from temporalio.service import RPCError, RPCStatusCode

from perdure.cli._errors import describe
from perdure.devserver import DevServer
from tests.cli.conftest import Project

CLOSED = "127.0.0.1:1"


@pytest.fixture(autouse=True)
def _nothing_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEMPORAL_ADDRESS", CLOSED)


def one_line(stderr: str) -> str:
    assert stderr.count("\n") == 1, stderr
    return stderr


@pytest.mark.parametrize("command", ["run", "start"])
def test_unknown_agent_suggests_the_nearest(project: Project, command: str) -> None:
    assert "Did you mean 'calc'?" in one_line(project.fail(command, "calk", "-i", "x", code=2))
    assert "Did you mean 'OrderFlow'?" in one_line(project.fail(command, "OrderFlo", "-i", "x", code=2))
    assert "Did you mean 'calc'?" in one_line(project.fail("agent", "show", "calk", code=2))


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ('{"sku": ', "should be JSON of Order: invalid JSON"),
        ('{"count": 2}', "should be JSON of Order: sku: Field required"),
        ("[1]", "should be JSON of Order"),
        ("some text", "should be JSON of Order"),
    ],
)
def test_broken_json_for_a_workflow(project: Project, given: str, problem: str) -> None:
    stderr = one_line(project.fail("start", "OrderFlow", "-i", given, code=2))
    assert problem.lower() in stderr.lower()


def test_a_missing_file(project: Project) -> None:
    assert "'nope.txt': No such file" in one_line(project.fail("start", "calc", "-i", "@nope.txt", code=2))


def test_a_file_that_is_no_text(project: Project) -> None:
    (project.folder / "image.png").write_bytes(b"\x89PNG\xff")
    assert "isn't UTF-8" in one_line(project.fail("start", "calc", "-i", "@image.png", code=2))


def test_parts_that_are_wrong(project: Project) -> None:
    stderr = one_line(project.fail("start", "calc", "-i", '[{"kind": "image"}]', code=2))
    assert "give either url or blob" in stderr


@pytest.mark.parametrize(
    ("args", "problem"),
    [
        (("--limit", "max_turn=5"), "Did you mean 'max_turns'?"),
        (("--limit", "max_turns=many"), "max_turns: Input should be a valid integer"),
        (("--limit", "max_turns"), "should be KEY=VALUE"),
        (("--limit", "max_cost_usd=-1"), "max_cost_usd: Input should be greater than 0"),
        (("--limit", "max_cost_usd=1e12"), "max_cost_usd: Input should be less than or equal to 1000000000"),
        (("--limit", "max_cost_usd=NaN"), "max_cost_usd: Input should be a finite number"),
        (("--limit", "max_total_tokens=0"), "max_total_tokens: Input should be greater than or equal to 1"),
        (("--limit", "wall_clock=-5"), "wall_clock"),
        (("--context", "=x"), "should be KEY=VALUE"),
    ],
)
def test_limits_and_context(project: Project, args: tuple[str, ...], problem: str) -> None:
    assert problem in one_line(project.fail("start", "calc", "-i", "x", *args, code=2))


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ("max_cost=5", "Did you mean 'max_cost_usd'?"),
        ("max_cost_usd=0", "limit: max_cost_usd: Input should be greater than 0"),
        ("max_cost_usd", "should be KEY=VALUE"),
    ],
)
def test_limits_of_an_open_run(project: Project, given: str, problem: str) -> None:
    assert problem in one_line(project.fail("limit", "some-run", given, code=2))


def test_no_input_for_an_agent(project: Project) -> None:
    assert "Missing option '-i'" in project.fail("start", "calc", code=2)


def test_agent_options_for_a_workflow(project: Project) -> None:
    stderr = project.fail("start", "OrderFlow", "-i", '{"sku": "a"}', "--context", "a=b", code=2)
    assert "are for agents" in stderr
    stderr = project.fail("start", "OrderFlow", "-i", '{"sku": "a"}', "--limit", "max_turns=5", code=2)
    assert "max_turns can't be shared: set it on the agents" in stderr


def test_an_app_that_fails_to_import_shows_its_own_traceback(project: Project) -> None:
    project.write("def broken():\n    return 1 / 0\n\nbroken()\n")
    stderr = project.fail("agent", "list", code=4)
    assert f"{project.module}.py:2: ZeroDivisionError: division by zero" in stderr.splitlines()[0]
    assert "in broken\n" in stderr
    assert "perdure/" not in stderr.replace(str(project.folder), "")
    assert "importlib" not in stderr


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ("app = 1\n", "is a int, not a perdure App"),
        ("x = (\n", "SyntaxError: '(' was never closed"),
        ("import not_there\n", "No module named 'not_there'"),
        ("from perdure import Agent\nAgent('a b', model='offline:x')\n", "Agent"),
    ],
)
def test_an_app_that_is_none(project: Project, body: str, problem: str) -> None:
    project.write(body)
    assert problem in project.fail("start", "calc", "-i", "x", code=4).splitlines()[0]


def test_no_app(project: Project) -> None:
    (project.folder / "pyproject.toml").unlink()
    assert "No app is configured" in one_line(project.fail("agent", "list", code=4))


def test_a_setting_that_is_wrong(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERDURE_DEV_PORT", "many")
    assert "PERDURE_DEV_PORT" in one_line(project.fail("agent", "list", code=4))


@pytest.mark.parametrize(
    ("args", "problem"),
    [
        (("dev", "--port", "70000"), "flag --port: dev_port"),
        (("worker", "--serve", "bogus"), "flag --serve"),
        (("start", "calc", "-i", "x", "--task-queue", ""), "flag --task-queue"),
        (("start", "calc", "-i", "x", "--ask", " "), "--ask: "),
        (("send", "some-run", "@~nobody-of-that-name see this"), "'~nobody-of-that-name see this': Could not"),
    ],
)
def test_what_was_typed_wrong_is_wrong_usage(project: Project, args: tuple[str, ...], problem: str) -> None:
    assert problem in one_line(project.fail(*args, code=2))


def test_what_the_server_finds_wrong_is_wrong_usage() -> None:
    code, _ = describe(RPCError("WorkflowId length exceeds limit.", RPCStatusCode.INVALID_ARGUMENT, b""))
    assert code == 2
    code, _ = describe(RPCError("no", RPCStatusCode.FAILED_PRECONDITION, b""))
    assert code == 1


@pytest.mark.parametrize(
    "args",
    [
        ("start", "calc", "-i", "x"),
        ("run", "calc", "-i", "x"),
        ("list",),
        ("show", "x"),
        ("signal", "x", "y"),
        ("worker",),
    ],
)
def test_unreachable_temporal(project: Project, args: tuple[str, ...]) -> None:
    start = time.monotonic()
    stderr = one_line(project.fail(*args, code=3))
    assert time.monotonic() - start < 10
    assert f"Can't reach Temporal at {CLOSED} (from TEMPORAL_ADDRESS)" in stderr


def test_unreachable_temporal_in_a_process(project: Project) -> None:
    start = time.monotonic()
    command = [sys.executable, "-m", "perdure", "list"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, env=_environment())
    assert (ended.returncode, ended.stdout) == (3, "")
    assert one_line(ended.stderr).startswith("Error: Can't reach Temporal")
    assert time.monotonic() - start < 10


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}


@pytest.mark.parametrize("how", ["flag", "environment"])
def test_debug_shows_the_traceback(
    project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], how: str
) -> None:
    if how == "environment":
        monkeypatch.setenv("PERDURE_DEBUG", "1")
    result = project.run("list", *(["--debug"] if how == "flag" else []))
    assert result.exit_code == 3
    assert "Traceback (most recent call last)" in result.stderr + capsys.readouterr().err


def test_an_unexpected_error_is_a_line(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.write(
        "from perdure import App\nclass Bad(App):\n  agents = property(lambda self: 1 / 0)\napp = Bad()\n"
    )
    stderr = one_line(project.fail("agent", "list", code=1))
    assert (
        stderr == "Error: Unexpected ZeroDivisionError: division by zero (`--debug` shows where it comes from.)\n"
    )


def test_dev_without_an_app_starts_no_server(project: Project) -> None:
    (project.folder / "pyproject.toml").unlink()
    assert "No app is configured" in one_line(project.fail("dev", code=4))
    assert not DevServer(project.folder / ".perdure").log_file.exists()


@pytest.mark.parametrize(
    "args",
    [
        ("start", "calc", "-i", "caf\udce9"),
        ("start", "calc", "-i", '[{"kind": "text", "text": "\\ud83d"}]'),
        ("start", "calc", "-i", "x", "--context", 'mood="\\ud83d"'),
        ("start", "calc", "-i", "x", "--id", "\udcff"),
        ("signal", "some-run", "note", '"\\ud83d"'),
        ("plan", "check", "plan-\udce9.yaml"),
    ],
)
def test_what_is_no_text(project: Project, args: tuple[str, ...]) -> None:
    stderr = one_line(project.fail(*args, code=2))
    assert "isn't UTF-8 text" in stderr or "surrogate" in stderr


def test_items_that_are_no_text(project: Project) -> None:
    stderr = one_line(project.fail("map", "calc", "--items", "-", code=2, input='["\\ud83d"]'))
    assert "half of a surrogate pair" in stderr


def test_the_projects_server_is_named(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TEMPORAL_ADDRESS")
    monkeypatch.setenv("TEMPORAL_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PERDURE_DEV_PORT", "1")
    stderr = one_line(project.fail("list", code=3))
    assert "Can't reach Temporal at 127.0.0.1:1 (this project's embedded server)" in stderr


@pytest.mark.parametrize(
    ("args", "problem"),
    [
        (("--tool-result", "add"), "should be CALL=TEXT or CALL=@FILE"),
        (("--tool-result", "add=@nope.txt"), "'nope.txt': No such file"),
        (("--instructions", "@nope.txt"), "'nope.txt': No such file"),
        (("--limit", "max_turn=5"), "Did you mean 'max_turns'?"),
    ],
)
def test_forks(project: Project, args: tuple[str, ...], problem: str) -> None:
    assert problem in one_line(project.fail("fork", "some-run", *args, code=2))
    assert "-1 is not in the range" in project.fail("fork", "some-run", "--turn", "-1", code=2)


@pytest.mark.parametrize(
    ("args", "problem"),
    [
        ("--agent calc -i x", "Give --cron or --every"),
        ("-i x --every 1h", "Give either --agent or --workflow"),
        ("--agent calc --workflow OrderFlow -i x --every 1h", "Give either --agent or --workflow"),
        ("--agent calc --every 1h", "Missing option '-i'"),
        ("--agent calc -i x --every soon", "--every 'soon' should be a number of s, m, h, d or w"),
        ("--agent calc -i x --every 0h", "--every '0h' should be a number"),
        ("--agent calc -i x --every 1h --jitter x", "--jitter 'x' should be"),
        ("--agent calc -i x --every 1h --overlap perhaps", "'perhaps' is not one of 'skip', 'buffer_one'"),
        ("--workflow OrderFlo --every 1h", "Did you mean 'OrderFlow'?"),
        ("--workflow OrderFlow -i {} --every 1h", "should be JSON of Order: sku: Field required"),
    ],
)
def test_schedules(project: Project, args: str, problem: str) -> None:
    assert problem in project.fail("schedule", "create", "nightly", *args.split(), code=2)


@pytest.mark.parametrize(
    ("args", "given"),
    [
        ("result some-run --timeout nan", "nan"),
        ("result some-run --timeout inf", "inf"),
        ("result some-run --timeout 1e300", "1e300"),
        ("top --interval nan", "nan"),
        ("storage gc --older-than inf", "inf"),
    ],
)
def test_numbers_that_no_clock_counts(project: Project, args: str, given: str) -> None:
    assert f"'{given}' is out of range." in project.fail(*args.split(), code=2)
