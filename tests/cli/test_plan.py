"""`perdure plan` without a server: checked, refused, described."""

import json

import pytest
from click.testing import CliRunner

from perdure.cli import cli
from perdure.cli._outcome import print_result
from perdure.contracts.plan import PlanResult, TaskFailure, TaskResult
from tests.cli.conftest import Project

GOOD = "tasks:\n  - id: a\n    agent: calc\n"
BAD = "tasks:\n  - id: a\n    agent: calk\n    needs: [a]\n"
FAULTS = [
    "plan.yaml:3: Task 'a': there is no agent 'calk'. Did you mean 'calc'?",
    "plan.yaml:4: Task 'a' needs itself.",
]


@pytest.mark.parametrize("name", ["check", "run", "start", "amend", "schema"])
def test_each_has_help(name: str) -> None:
    assert CliRunner().invoke(cli, ["plan", name, "--help"]).exit_code == 0


def test_a_good_plan(project: Project) -> None:
    (project.folder / "plan.yaml").write_text(GOOD)
    checked = project.run("plan", "check", "plan.yaml")
    assert (checked.exit_code, checked.stdout, checked.stderr) == (0, "", "plan.yaml: 1 task, no faults.\n")
    assert json.loads(project.run("plan", "check", "-", "-o", "json", input=GOOD).stdout) == {"faults": []}


def test_every_fault_has_its_line(project: Project) -> None:
    (project.folder / "plan.yaml").write_text(BAD)
    checked = project.run("plan", "check", "plan.yaml")
    assert (checked.exit_code, checked.stdout.splitlines()) == (2, FAULTS)
    checked = project.run("plan", "check", "plan.yaml", "-o", "json")
    assert [fault["line"] for fault in json.loads(checked.stdout)["faults"]] == [3, 4]


def test_without_an_app_agents_are_not_checked(project: Project) -> None:
    (project.folder / "pyproject.toml").unlink()
    assert project.run("plan", "check", "-", input=BAD).stdout == "stdin:4: Task 'a' needs itself.\n"


def test_a_plan_with_faults_is_not_run(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEMPORAL_ADDRESS", "127.0.0.1:1")
    (project.folder / "plan.yaml").write_text(BAD)
    assert project.fail("plan", "run", "plan.yaml", code=2).splitlines() == [*FAULTS, "plan.yaml: 2 faults."]
    assert "no JSON" in project.fail("plan", "run", "-", code=2, input="{")
    assert "No such file" in project.fail("plan", "run", "nope.yaml", code=2)
    assert "takes more than 1500000 bytes" in project.fail(
        "plan", "run", "-", code=2, input=GOOD + f"    input: {'x' * 1_600_000}"
    )


def test_the_schema_is_json() -> None:
    assert json.loads(CliRunner().invoke(cli, ["plan", "schema"]).stdout)["properties"]["tasks"]


def test_a_result_is_outputs_and_what_there_is_to_say(capsys: pytest.CaptureFixture[str]) -> None:
    failure = TaskFailure(task="b", agent="x", type="TaskFailed", message="no")
    tasks = (
        TaskResult(id="a", agent="x", state="done", output="text"),
        TaskResult(id="b", agent="x", state="failed", failure=failure),
        TaskResult(id="c", agent="x", state="skipped"),
        TaskResult(id="d", agent="x", state="done", is_output_apart=True, workflow_id="w/d"),
    )
    print_result(PlanResult(tasks=tasks), "text")
    printed = capsys.readouterr()
    assert json.loads(printed.out) == {"a": "text", "d": None}
    assert printed.err.splitlines() == [
        "Task 'b' failed: TaskFailed: no",
        "Task 'c': skipped.",
        "The output of task 'd' is long: `perdure result w/d` prints it.",
    ]


def test_there_is_a_plan_or_somebody_who_writes_one(project: Project) -> None:
    told = project.fail("plan", "run", code=2)
    assert "Give the FILE of a plan, or --planner AGENT and -i INPUT" in told
    assert "no agent 'calk'. Did you mean 'calc'?" in project.fail(
        "plan", "start", "--planner", "calk", "-i", "x", code=2
    )


def test_an_amendment_with_faults_is_not_sent(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    file = "tasks:\n  - id: a\n    agnet: calc\ndrop: a\nadd: []\n"
    told = project.fail("plan", "amend", "some-run", "-", code=2, input=file).splitlines()
    assert told == [
        "stdin:2: Task 'a', agent: Field required.",
        "stdin:3: Task 'a' has no 'agnet'. Did you mean 'agent'?",
        "stdin:4: `drop:` is a list of ids of tasks.",
        "stdin:5: An amendment has no 'add'. Known: drop, tasks.",
        "stdin: 4 faults.",
    ]


def test_an_answer_is_the_result(capsys: pytest.CaptureFixture[str]) -> None:
    tasks = (TaskResult(id="a", agent="x", state="done", output="text"),)
    print_result(PlanResult(tasks=tasks, answer="So it is.", answered_by="w/writer-1"), "text")
    assert capsys.readouterr().out == "So it is.\n"
    print_result(PlanResult(tasks=tasks, answered_by="w/writer-1"), "text")
    assert "`perdure result w/writer-1` prints it" in capsys.readouterr().err
