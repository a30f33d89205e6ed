"""The console script against a real server: start runs, look at them, steer them."""

import json
import os
import pty
import subprocess
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from perdure.devserver import DevServer
from tests.support.cli_project import CliProject, command, environment, wait_until

QUEUE = "cli-runs"
FAILURE = {"type": "ModelUnavailable", "message": "scripted:x: the vendor said no", "partial": None}


@pytest.fixture(scope="module")
def project(server: DevServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[CliProject]:
    """A project with a worker."""
    environ = {"TEMPORAL_ADDRESS": server.address, "PERDURE_TASK_QUEUE": QUEUE}
    made = CliProject(tmp_path_factory.mktemp("cli"), environ)
    worker = made.start("worker")
    worker.wait_for("serves the Task Queue")
    yield made
    code = worker.stop()[0]
    made.kill_all()
    assert code == 0
    assert "it finishes its calls" in worker.stderr


@pytest.fixture(scope="module")
def finished(project: CliProject) -> str:
    """A run that is over."""
    workflow_id = project.out("start", "calc", "-i", "1 + 2", "--limit", "max_turns=4").strip()
    project.invoke("result", workflow_id)
    return workflow_id


@pytest.fixture
def order(project: CliProject) -> str:
    """A run of the user's own workflow, which waits for its signal."""
    workflow_id = f"order-{uuid4().hex[:8]}"
    assert project.out("start", "OrderFlow", "-i", '{"sku": "a"}', "--id", workflow_id) == f"{workflow_id}\n"
    return workflow_id


def test_start_prints_the_id_and_nothing_else(project: CliProject) -> None:
    ended = project.run("start", "calc", "-i", "-", "-o", "json", input="from stdin")
    started = json.loads(ended.stdout)
    assert ended.stderr == ""
    assert started["workflow_id"].startswith("calc-")
    assert "'from stdin'" in project.out("result", started["workflow_id"])


def test_a_large_input_leaves_json_alone(project: CliProject) -> None:
    """Temporal's core warns of payloads over 512 kB, and its default is to write that to stdout."""
    ended = project.run("start", "calc", "-i", "-", "-o", "json", input="x " * 500_000)
    assert json.loads(ended.stdout)["workflow_id"].startswith("calc-")
    assert "exceeded" in ended.stderr
    project.invoke("terminate", json.loads(ended.stdout)["workflow_id"])


def test_result(project: CliProject, finished: str) -> None:
    assert project.run("result", finished).stdout == "The answer to '1 + 2' is 3.\n"
    assert project.run("result", finished, "--timeout", "0").stdout == "The answer to '1 + 2' is 3.\n"
    result = json.loads(project.out("result", finished, "-o", "json"))
    assert (result["output"], result["counters"]["turns"]) == ("The answer to '1 + 2' is 3.", 2)


def test_show(project: CliProject, finished: str) -> None:
    shown = dict(line.split(None, 1) for line in project.out("show", finished).splitlines())
    assert (shown["status"], shown["turns"], shown["agent"]) == ("completed", "2 of 4", "calc")
    assert json.loads(project.out("show", finished, "-o", "json"))["info"]["status"] == "completed"


def test_transcript(project: CliProject, finished: str) -> None:
    lines = project.out("transcript", finished).splitlines()
    assert lines[0] == "user       1 + 2"
    assert "turn 1     → add(a=1, b=2)" in lines
    assert "  add      3" in lines
    entries = [json.loads(line) for line in project.out("transcript", finished, "-o", "jsonl").splitlines()]
    assert [entry["message"]["role"] for entry in entries] == ["user", "assistant", "tool", "assistant"]


def test_a_full_transcript(project: CliProject, finished: str) -> None:
    assert project.out("transcript", finished, "--full") == project.out("transcript", finished)
    entries = json.loads(project.out("transcript", finished, "--full", "-o", "json"))
    assert [entry["slot"] for entry in entries] == [0, 1, 2, 3]
    assert all(entry["run_id"] for entry in entries)


def test_trace(project: CliProject, finished: str) -> None:
    lines = project.out("trace", finished).splitlines()
    assert any(line.startswith("used ") and "2 turns · 1 tool call" in line for line in lines)
    assert any(line.endswith("└─ add(a=1, b=2)") for line in lines)
    told = json.loads(project.out("trace", finished, "-o", "json"))
    assert told["totals"]["own"]["turns"] == 2
    steps = [json.loads(line) for line in project.out("trace", finished, "-o", "jsonl").splitlines()]
    assert [step["kind"] for step in steps if step["level"] == 0] == ["activity", "turn", "turn"]


def test_report(project: CliProject, finished: str) -> None:
    assert project.out("report", finished, "--out", "run.html") == "run.html\n"
    page = (project.folder / "run.html").read_text()
    assert "The answer to &#x27;1 + 2&#x27; is 3." in page
    assert project.out("report", finished, "--out", "-").startswith("<!doctype html>")
    told = json.loads(project.out("report", finished, "-o", "json"))
    assert (project.folder / told["path"]).stat().st_size == told["bytes"]


def test_top(project: CliProject, order: str) -> None:
    napping = project.out("start", "calc", "-i", "nap 5").strip()
    text = project.out("top", "--once")
    assert " open" in text.splitlines()[0]
    assert any(line.split()[:2] == [QUEUE, "workflow"] and "  1: " in line for line in text.splitlines()), text
    looked = json.loads(project.out("top", "-o", "json", "--agent", "calc"))
    runs = {run["info"]["workflow_id"]: run for run in looked["runs"]}
    assert order not in runs
    assert runs[napping]["info"]["state"] == "working"
    assert runs[napping]["activity"].startswith("turn "), "a worker tells what it does"
    assert len(project.out("top", "--once", "-o", "jsonl", "--limit", "1").splitlines()) == 1
    assert "No run has the state 'wrking'" in project.invoke("top", "--state", "wrking", code=2).stderr
    project.invoke("terminate", order)


def test_list(project: CliProject, finished: str) -> None:
    lines = project.out("list", "--agent", "calc", "--status", "completed").splitlines()
    assert lines[0].split() == ["STATUS", "AGENT", "STARTED", "TIME", "COST", "EVENTS", "ID"]
    assert any(line.endswith(finished) for line in lines)
    listed = json.loads(project.out("list", "--query", f"WorkflowId = '{finished}'", "-o", "json"))
    assert [run["workflow_id"] for run in listed] == [finished]
    assert len(project.out("list", "--limit", "1", "-o", "jsonl").splitlines()) == 1


def test_a_query_that_is_wrong(project: CliProject) -> None:
    stderr = project.invoke("list", "--query", "Nope = 1", code=2).stderr
    assert "The server can't use the query" in stderr


def test_watch_a_finished_run(project: CliProject, finished: str) -> None:
    lines = project.out("watch", finished).splitlines()
    assert lines[:4] == [
        "user       1 + 2",
        "turn 1     → add(a=1, b=2)",
        "  add      3",
        "turn 2     The answer to '1 + 2' is 3.",
    ]
    assert lines[4].startswith("completed  2 turns · 1 tool call · ")
    events = [json.loads(line) for line in project.out("watch", finished, "-o", "jsonl").splitlines()]
    assert [event["kind"] for event in events] == ["message"] * 4 + ["closed"]


def test_watch_on_a_terminal_shows_what_goes_on(project: CliProject) -> None:
    workflow_id = project.out("start", "calc", "-i", "nap 6").strip()
    ours, theirs = pty.openpty()
    watching = subprocess.Popen(
        command("watch", workflow_id),
        cwd=project.folder,
        env=environment({**project.environ, "TERM": "xterm-256color", "COLUMNS": "100"}),
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    shown = b""
    try:
        while piece := os.read(ours, 65536):
            shown += piece
    except OSError:  # the terminal's other end is closed
        pass
    os.close(ours)
    assert watching.wait() == 0
    assert "runs nap(seconds=6.0)" in shown.decode()
    assert "\x1b[" in shown.decode()


def test_a_failed_run(project: CliProject) -> None:
    workflow_id = project.out("start", "calc", "-i", "fail").strip()
    ended = project.invoke("result", workflow_id, code=1)
    assert ended.stdout == ""
    assert ended.stderr == "Error: ModelUnavailable: scripted:x: the vendor said no\n"
    watched = project.invoke("watch", workflow_id, code=1)
    assert watched.stdout.splitlines()[-1].startswith("failed     0 turns")
    assert "ModelUnavailable: scripted:x: the vendor said no" in project.out("show", workflow_id)
    lines = project.out("watch", workflow_id, "-o", "jsonl", code=1).splitlines()
    events = json.loads(project.out("watch", workflow_id, "-o", "json", code=1))
    assert [json.loads(line) for line in lines] == events
    assert [event["kind"] for event in events] == ["message", "closed", "error"]
    assert events[-1] == {"kind": "error", "error": FAILURE}


def test_a_run_that_fails_is_an_error_as_json_too(project: CliProject) -> None:
    failed = project.run("run", "calc", "-i", "fail", "-o", "json", code=1)
    assert json.loads(failed.stdout) == {"error": FAILURE}
    assert failed.stderr.endswith("Error: ModelUnavailable: scripted:x: the vendor said no\n")
    lines = project.run("run", "calc", "-i", "fail", "-o", "jsonl", code=1).stdout.splitlines()
    assert json.loads(lines[-1]) == {"kind": "error", "error": FAILURE}
    assert json.loads(lines[-2])["kind"] == "closed"


def test_what_temporal_or_the_disk_does_not_take(project: CliProject, finished: str) -> None:
    refused = project.invoke("start", "calc", "-i", "x", "--id", "x" * 1100, code=2).stderr
    assert "WorkflowId" in refused
    assert "Unexpected" not in refused
    told = project.invoke("replay", "export", finished, "-f", "no/such/run.json", code=2).stderr
    assert told == "Error: Can't write 'no/such/run.json': No such file or directory. Choose another by --file.\n"


def test_rerun(project: CliProject, finished: str) -> None:
    assert "completed: `perdure result" in project.invoke("rerun", finished, code=2).stderr
    workflow_id = project.out("start", "calc", "-i", "fail").strip()
    project.invoke("result", workflow_id, code=1)
    again = project.invoke("rerun", workflow_id)
    assert again.stdout == f"{workflow_id}\n"
    assert again.stderr == "There was nothing to keep: it starts from the beginning.\n"
    project.invoke("result", workflow_id, code=1)
    assert json.loads(project.out("rerun", workflow_id, "-o", "json"))["is_beginning"] is True


def test_fork_and_diff(project: CliProject, finished: str) -> None:
    (project.folder / "result.txt").write_text("4\n")
    made = project.invoke("fork", finished, "--turn", "1", "--tool-result", "add=@result.txt", "--id", "forked")
    assert made.stdout == "forked\n"
    assert made.stderr == f"Fork of {finished}: 2 messages up to turn 1, other result of add.\n"
    project.invoke("result", "forked")
    shown = dict(line.split(None, 1) for line in project.out("show", "forked").splitlines())
    assert shown["turns"] == "1 of 4, after 1 that were copied"
    assert shown["fork"] == f"of       {finished} at turn 1: other result of add"
    lines = project.out("diff", finished, "forked").splitlines()
    assert "They part at turn 1, by a tool's result:" in next(line for line in lines if "The same:" in line)
    assert [line.split() for line in lines if line.startswith("  add")] == [["add", "3"], ["add", "4"]]
    assert lines[-1] == "B  The answer to '1 + 2' is 3."
    found = json.loads(project.out("diff", finished, "forked", "-o", "json"))
    assert (found["common_messages"], found["parting"]["where"]) == (2, "result")
    assert len(project.out("diff", finished, finished, "-o", "jsonl").splitlines()) == 1
    again = json.loads(project.out("fork", finished, "--message", "more", "-o", "json"))
    assert (again["turn"], again["messages"], again["changes"]) == (2, 4, ["message"])
    project.invoke("result", again["workflow_id"])


def test_forks_that_cannot_be(project: CliProject, finished: str, order: str) -> None:
    assert "has 2 turns" in project.invoke("fork", finished, "--turn", "3", code=2).stderr
    assert (
        "no call 'sub'" in project.invoke("fork", finished, "--turn", "1", "--tool-result", "sub=1", code=2).stderr
    )
    assert "has no turns of its own" in project.invoke("fork", order, code=2).stderr
    assert "has no turns of its own" in project.invoke("diff", finished, order, code=2).stderr
    project.invoke("terminate", order)


def test_schedules(project: CliProject) -> None:
    create = ["schedule", "create", "nightly", "--agent", "calc", "-i", "1+2", "--cron"]
    made = project.invoke(*create, "0 3 * * *", "--time-zone", "Europe/Berlin", "--paused")
    assert (made.stdout, made.stderr) == ("nightly\n", "Paused.\n")
    assert "is a schedule 'nightly' already" in project.invoke(*create, "@daily", code=2).stderr
    scheduled = project.out("schedule", "trigger", "nightly").strip()
    assert project.out("result", scheduled) == "The answer to '1+2' is 3.\n"
    assert project.invoke("schedule", "resume", "nightly").stderr == "Resumed nightly.\n"
    shown = dict(line.split(None, 1) for line in project.out("schedule", "show", "nightly").splitlines())
    assert (shown["when"], shown["agent"], shown["state"]) == ("0 3 * * *", "calc", "active")
    assert shown["next"].count(",") == 4
    assert shown["run"].startswith(f"{scheduled} (")
    assert json.loads(project.out("schedule", "show", "nightly", "-o", "json"))["time_zone"] == "Europe/Berlin"
    wait_until(lambda: "nightly" in project.out("schedule", "list"))
    listed = [json.loads(line) for line in project.out("schedule", "list", "-o", "jsonl").splitlines()]
    assert {each["name"]: each["agent"] for each in listed}["nightly"] == "calc"
    assert project.invoke("schedule", "pause", "nightly", "--note", "holidays").stderr == "Paused nightly.\n"
    assert project.invoke("schedule", "delete", "nightly").stderr == "Deleted nightly.\n"
    for verb in ("show", "pause", "resume", "trigger", "delete"):
        assert "no schedule 'nightly'" in project.invoke("schedule", verb, "nightly", code=2).stderr
    bad = project.invoke(*create, "nonsense", code=2).stderr
    assert bad.startswith("Error: Temporal can't use the schedule 'nightly': ")
    assert bad.count("\n") == 1


def test_memory_of_nobody(project: CliProject) -> None:
    shown = project.invoke("memory", "show", "ada")
    assert (shown.stdout, shown.stderr) == ("", "Nothing is remembered.\n")
    assert json.loads(project.out("memory", "show", "ada", "--tenant", "t", "-o", "json"))["entries"] == []
    assert "Whose memory?" in project.invoke("memory", "show", code=2).stderr
    assert "either keys, or everything" in project.invoke("memory", "forget", "ada", code=2).stderr
    forgotten = project.invoke("memory", "forget", "ada", "--key", "home")
    assert (forgotten.stdout, forgotten.stderr) == ("", "There was nothing under the key 'home'.\n")


def test_a_run_that_goes_on_for_longer(project: CliProject) -> None:
    workflow_id = project.out("start", "calc", "-i", "flaky").strip()
    told = f"'{workflow_id}' is still running; it goes on."
    assert project.invoke("result", workflow_id, "--timeout", "1", code=3).stderr == f"Error: {told}\n"
    ended = project.invoke("result", workflow_id, "--timeout", "0", "-o", "json", code=3)
    assert json.loads(ended.stdout)["error"] == {"type": "StillRunningError", "message": told, "partial": None}
    assert "overloaded" in project.out("show", workflow_id)
    project.invoke("cancel", workflow_id)
    assert "RunCancelled" in project.invoke("result", workflow_id, code=1).stderr


def test_query_update_and_signal(project: CliProject, order: str) -> None:
    assert project.out("query", order, "state", "is") == "is: open\n"
    assert json.loads(project.out("update", order, "rename", "one")) == {"note": "one"}
    ended = project.invoke("signal", order, "close", '"-two"')
    assert (ended.stdout, ended.stderr) == ("", f"Sent close to {order}.\n")
    assert json.loads(project.out("result", order)) == {"sku": "a", "note": "one-two"}
    assert "is closed" in project.invoke("signal", order, "close", "x", code=2).stderr


def test_a_query_that_the_run_does_not_know(project: CliProject, order: str) -> None:
    assert "can't answer 'nope'" in project.invoke("query", order, "nope", code=2).stderr
    project.invoke("terminate", order)


def test_terminate(project: CliProject, order: str) -> None:
    assert "is open" in project.invoke("start", "OrderFlow", "-i", '{"sku": "b"}', "--id", order, code=2).stderr
    project.invoke("terminate", order, "--reason", "no longer wanted")
    assert "no longer wanted" in project.out("show", order)
    assert "RunTerminated" in project.invoke("result", order, code=1).stderr


@pytest.mark.parametrize(
    "args",
    [
        "show ID",
        "result ID",
        "watch ID",
        "transcript ID",
        "trace ID",
        "report ID --out -",
        "query ID x",
        "signal ID x",
        "cancel ID",
        "terminate ID",
        "rerun ID",
        "fork ID",
        "diff ID ID",
    ],
)
def test_an_unknown_run(project: CliProject, args: str) -> None:
    ended = project.invoke(*args.replace("ID", "nobody").split(), code=2)
    assert ended.stdout == ""
    assert ended.stderr == "Error: There is no run 'nobody'. `perdure list` shows the runs that there are.\n"


def test_a_queue_without_worker_is_noticed(project: CliProject) -> None:
    ended = project.invoke("start", "calc", "-i", "x", "--task-queue", "nobody-polls")
    warning = "no worker polls the Task Queue 'nobody-polls'"
    assert warning in ended.stderr
    waiting = project.invoke("result", ended.stdout.strip(), "--timeout", "0.1", code=3)
    assert warning in waiting.stderr


def test_start_needs_no_app(project: CliProject, tmp_path: Path) -> None:
    other = CliProject(tmp_path, project.environ)
    (tmp_path / "pyproject.toml").unlink()
    workflow_id = other.out("start", "calk", "-i", "x").strip()
    stderr = other.invoke("result", workflow_id, code=1).stderr
    assert stderr.startswith("Error: UnknownAgentError: There is no agent 'calk'. Did you mean 'calc'?")


def test_doctor_finds_all_well(project: CliProject) -> None:
    found = json.loads(project.out("doctor", "-o", "json"))
    loaded = {each["name"] for each in found if each["section"] == "Workflows"}
    ours = {"AgentWorkflow", "MapNode", "MapWorkflow", "Memory", "PlanWorkflow", "Scoreboard"}
    assert loaded == {*ours, "OrderFlow"}, "those that a worker registers"
    shown = project.out("doctor")
    assert "All is well." in shown
    assert "all 7 are registered" in shown
    assert f"Task Queue {QUEUE}" in shown


def test_run_uses_the_worker_that_is_there(project: CliProject) -> None:
    ended = project.run("run", "calc", "-i", "1 + 2", "-o", "json")
    assert json.loads(ended.stdout)["output"] == "The answer to '1 + 2' is 3."
    assert "runs one" not in ended.stderr
    assert "turn 2     The answer" in ended.stderr


def test_run_streams_json_lines(project: CliProject) -> None:
    events = [
        json.loads(line) for line in project.run("run", "calc", "-i", "2", "-o", "jsonl").stdout.splitlines()
    ]
    assert [event["kind"] for event in events][-2:] == ["closed", "result"]
    assert events[-1]["result"]["output"] == "The answer to '2' is 3."


def test_run_brings_a_worker_where_none_polls(project: CliProject) -> None:
    ended = project.run("run", "calc", "-i", "1 + 2", "--task-queue", "cli-own-worker")
    assert ended.stdout == "The answer to '1 + 2' is 3.\n"
    assert "No worker polls the Task Queue 'cli-own-worker': runs one here." in ended.stderr


def test_a_reader_that_goes_away_is_no_error(project: CliProject, finished: str) -> None:
    listing = subprocess.Popen(
        command("list", "-o", "jsonl"),
        cwd=project.folder,
        env=environment(project.environ),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert listing.stdout is not None
    assert listing.stderr is not None
    listing.stdout.close()
    with listing.stderr:
        assert listing.stderr.read() == b""
    listing.wait()


def test_cost_adds_up_runs(project: CliProject, finished: str) -> None:
    """The model has no price: its cost is unknown, and not 0."""
    rows = [
        json.loads(line)
        for line in project.out("cost", "--since", "1h", "--by", "run", "-o", "jsonl").splitlines()
    ]
    (row,) = [row for row in rows if row["name"] == finished]
    assert (row["runs"], row["unknown"], row["open"], row["cost_usd"]) == (1, 1, 0, "0")
    assert row["tokens"] > 0
    report = json.loads(project.out("cost", "-o", "json"))
    assert "calc" in {row["name"] for row in report["rows"]}
    assert report["total"]["tokens"] == sum(row["tokens"] for row in report["rows"])
    assert "total" in project.out("cost", "--by", "day")
    assert "such as 7d" in project.invoke("cost", "--since", "week", code=2).stderr
