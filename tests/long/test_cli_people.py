"""The command line of approvals and questions, against a real server: each command, format and bad input."""

import json
import os
import pty
import re
import subprocess
import time
from collections.abc import Iterator
from uuid import uuid4

import pytest

from perdure.client._identity import decider
from perdure.connection import connect
from perdure.devserver import DevServer
from tests.support.cli_project import CliProject, command, environment

APP = """
from perdure import Agent, App, ApprovalRule, ask_human_tool, tool
from perdure.testing import ScriptedModel, calls


@tool(needs_approval=True)
def deploy(target: str, count: int = 1) -> str:
    return f"deployed {target} x {count}"


def script(request, messages):
    text = messages[0].text
    if len(messages) > 1:
        return " | ".join(p.text for m in messages if m.role == "tool" for p in m.parts[0].content)
    if text == "ask":
        return calls(("ask_human", {"question": "Which colour?"}))
    return calls(*[("deploy", {"target": each}) for each in text.split()])


app = App(
    agents=[Agent("doer", model="scripted:x", tools=[deploy, ask_human_tool()])],
    providers=[ScriptedModel(script)],
    approvals=[ApprovalRule(tool="deploy", group="ops")],
)
"""


@pytest.fixture(scope="module")
def project(server: DevServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[CliProject]:
    environ = {"TEMPORAL_ADDRESS": server.address, "PERDURE_TASK_QUEUE": "cli-people"}
    made = CliProject(tmp_path_factory.mktemp("cli"), environ)
    made.app_file.write_text(APP)
    worker = made.start("worker")
    worker.wait_for("serves the Task Queue")
    yield made
    worker.stop()
    made.kill_all()


def start(project: CliProject, text: str) -> str:
    return project.out("start", "doer", "-i", text, "--id", f"people-{uuid4().hex[:8]}").strip()


def waits(project: CliProject, workflow_id: str, count: int = 1) -> list[dict[str, str]]:
    """Return what a run waits for, once that is so much."""
    for _ in range(200):
        found = json.loads(project.out("approvals", workflow_id, "-o", "json"))
        if sum(len(run["waits"]) for run in found) == count:
            return [wait for run in found for wait in run["waits"]]
        time.sleep(0.05)
    raise AssertionError(f"{workflow_id} did not come to wait for {count}")


def test_approve_in_each_format(project: CliProject) -> None:
    workflow_id = start(project, "a b c")
    first, second, third = waits(project, workflow_id, 3)
    assert json.loads(project.out("approve", workflow_id, first["id"], "-o", "json"))["outcome"] == "approved"
    line = project.out("approve", workflow_id, second["id"][:5], "--args", '{"target": "x"}', "-o", "jsonl")
    assert (json.loads(line)["is_edited"], line.count("\n")) == (True, 1)
    denied = project.invoke("deny", workflow_id, "--reason", "no")
    assert re.fullmatch(rf"Denied {third['id']} as \S+@\S+\.\n", denied.stderr)
    assert denied.stdout == ""
    output = project.out("result", workflow_id)
    assert "deployed a x 1 | [A person approved this call" in output
    assert output.endswith("| Not run: a person denied it. no\n")
    table = project.out("approvals", workflow_id, "--decided").splitlines()
    assert table[0].split()[:5] == ["AT", "DECISION", "CALL", "BY", "SERVER"]
    assert [line.split()[2] for line in table[1:]] == ["approve", "approve", "deny"]
    assert "(os user)" in table[1]
    decided = project.out("approvals", workflow_id, "--decided", "-o", "jsonl").splitlines()
    assert [json.loads(each)["reason"] for each in decided] == ["", "", "no"]


def test_the_inbox_in_each_format(project: CliProject) -> None:
    workflow_id, other = start(project, "web"), start(project, "ask")
    (wait,), _ = waits(project, workflow_id), waits(project, other)
    lines = list[str]()
    for _ in range(100):  # the server's list lags
        lines = project.out("inbox").splitlines()
        if any(workflow_id in line for line in lines) and any(other in line for line in lines):
            break
        time.sleep(0.1)
    assert lines[0].split() == ["SINCE", "GROUP", "LEFT", "CALL", "RUN", "WHAT"]
    (line,) = [each for each in lines if workflow_id in each]
    assert line.split()[2:] == ["ops", "-", wait["id"], workflow_id, 'deploy(target="web")']
    assert not [each for each in project.out("inbox", "--group", "ops").splitlines() if other in each]
    assert not [each for each in project.out("approvals").splitlines() if other in each]
    runs = json.loads(project.out("inbox", "-o", "json"))
    assert {workflow_id, other} <= {run["workflow_id"] for run in runs}
    assert len(project.out("inbox", "-o", "jsonl").splitlines()) == len(runs)
    shown = project.out("approvals", workflow_id)
    assert f"approval     {wait['id']}\n" in shown
    assert '"target": "web"' in shown
    assert f"perdure approve {workflow_id} {wait['id']}" in project.out("show", workflow_id)
    assert "waiting approval" in next(each for each in project.out("list").splitlines() if workflow_id in each)
    project.invoke("approve", workflow_id, "--always")
    project.invoke("answer", other, "green")
    assert project.out("result", other) == "green\n"
    assert "It waits for nobody." in project.invoke("approvals", workflow_id).stderr


@pytest.mark.parametrize(
    ("args", "problem"),
    [
        (("approve", "ID", "zzzz"), "Nothing with the id 'zzzz' waits in the run"),
        (("approve", "ID"), "waits for several: name one of "),
        (("approve", "ID", "CALL", "--args", "{"), "--args should be a JSON object: "),
        (("approve", "ID", "CALL", "--args", "[1]"), "--args should be a JSON object, such as"),
        (("approve", "ID", "CALL", "--args", "@nope.json"), "'nope.json': No such file"),
        (("approve", "ID", "CALL", "--args", '{"target": 5}'), "target: 5 should be of type string"),
        (("deny", "ID", "CALL", "--reason", "x" * 2000), "more than 1000 characters"),
        (("answer", "ID", "x"), "waits for no answer"),
        (("approve", "no-such-run"), "There is no run 'no-such-run'"),
        (("approvals", "no-such-run"), "There is no run 'no-such-run'"),
        (("approvals", "--decided"), "--decided needs the ID of a run"),
    ],
)
def test_bad_input(project: CliProject, two: tuple[str, str], args: tuple[str, ...], problem: str) -> None:
    given = [{"ID": two[0], "CALL": two[1]}.get(each, each) for each in args]
    refused = project.invoke(*given, code=2)
    assert problem in refused.stderr
    assert refused.stdout == ""


@pytest.fixture(scope="module")
def two(project: CliProject) -> tuple[str, str]:
    """A run with two calls that wait, and the id of the first."""
    workflow_id = start(project, "a b")
    return workflow_id, waits(project, workflow_id, 2)[0]["id"]


def test_a_second_decision(project: CliProject) -> None:
    workflow_id = start(project, "a b")
    first = waits(project, workflow_id, 2)[0]["id"]
    project.invoke("approve", workflow_id, first)
    assert "waits in the run" in project.invoke("deny", workflow_id, first, code=2).stderr


def test_result_and_watch_say_that_a_person_is_waited_for(project: CliProject) -> None:
    workflow_id = start(project, "web")
    (wait,) = waits(project, workflow_id)
    result, watch = project.start("result", workflow_id), project.start("watch", workflow_id)
    how = f"perdure approve {workflow_id} {wait['id']}"
    result.wait_for(f'waits for approval: deploy(target="web") · {how}')
    assert watch.process.stdout is not None
    told = ""
    while f'asks       deploy(target="web") · {how}' not in told:
        line = watch.process.stdout.readline()
        assert line, f"it never said how to approve:\n{told}"
        told += line
    project.invoke("approve", workflow_id, wait["id"])
    watch.process.communicate(timeout=30)
    assert result.process.communicate(timeout=30)[0] == "deployed web x 1\n"


def test_a_run_can_ask_for_more(project: CliProject) -> None:
    assert "should be" not in project.out("start", "--help")
    refused = project.invoke("start", "doer", "-i", "a", "--ask", " ", code=2)
    assert "a name, or a pattern" in refused.stderr


class Terminal:
    """A command on a terminal of its own, whose person types what is asked for."""

    def __init__(self, project: CliProject, *args: str) -> None:
        self._master, slave = pty.openpty()
        self.process = subprocess.Popen(
            command(*args),
            cwd=project.folder,
            env={**environment(project.environ), "TERM": "xterm", "COLUMNS": "200"},
            stdin=slave,
            stdout=subprocess.PIPE,
            stderr=slave,
            start_new_session=True,
        )
        os.close(slave)
        os.set_blocking(self._master, False)
        self.seen = ""

    def expect(self, text: str) -> None:
        """Read until a text comes."""
        for _ in range(600):
            try:
                self.seen += os.read(self._master, 10_000).decode(errors="replace")
            except BlockingIOError:
                time.sleep(0.05)
            if text in self.seen:
                self.seen = self.seen.split(text, 1)[1]
                return
        raise AssertionError(f"{text!r} did not come; what came: {self.seen}")

    def type(self, line: str) -> None:
        os.write(self._master, f"{line}\n".encode())

    def end(self) -> str:
        """Return the command's stdout once it is over."""
        out, _ = self.process.communicate(timeout=30)
        os.close(self._master)
        assert self.process.returncode == 0
        return out.decode()


def test_run_on_a_terminal_asks_there(project: CliProject) -> None:
    terminal = Terminal(project, "run", "doer", "-i", "a b c")
    terminal.expect("Approve? [y]es, [n]o, [a]lways, [e]dit, [l]ater: ")
    terminal.type("what")
    terminal.expect("Type y, n, a, e or l.")
    terminal.type("y")
    terminal.expect("Approve? ")
    terminal.type("n")
    terminal.expect("Reason: ")
    terminal.type("not b")
    terminal.expect("Approve? ")
    terminal.type("e")
    terminal.expect("Arguments, as JSON: ")
    terminal.type('{"target": "c", "count": "x"}')
    terminal.expect("should be of type integer")
    terminal.type("e")
    terminal.expect("Arguments, as JSON: ")
    terminal.type('{"target": "c", "count": 2}')
    out = terminal.end()
    assert out.startswith("deployed a x 1 | Not run: a person denied it. not b | [A person approved")
    assert out.endswith("deployed c x 2\n")


def test_what_is_decided_elsewhere_is_asked_no_more(project: CliProject) -> None:
    workflow_id = f"people-{uuid4().hex[:8]}"
    terminal = Terminal(project, "run", "doer", "-i", "ask", "--id", workflow_id)
    terminal.expect("Answer (nothing for later): ")
    project.invoke("answer", workflow_id, "blue")
    assert terminal.end() == "blue\n"


def test_chat_on_a_terminal_asks_there(project: CliProject) -> None:
    """What is typed is the answer while something is asked, and a message to the agent else."""
    terminal = Terminal(project, "chat", "doer", "-i", "a")
    terminal.expect("Approve? [y]es, [n]o, [a]lways, [e]dit, [l]ater: ")
    terminal.type("no hurry with the rest")
    terminal.expect("Type y, n, a, e or l.")
    terminal.type("y")
    terminal.expect("> ")
    terminal.type("/quit")
    assert terminal.end() == "deployed a x 1\n"


def test_chat_on_a_terminal_asks_what_the_agent_asks(project: CliProject) -> None:
    terminal = Terminal(project, "chat", "doer", "-i", "ask")
    terminal.expect("Answer (nothing for later): ")
    terminal.type("blue")
    terminal.expect("> ")
    terminal.type("/quit")
    assert terminal.end() == "blue\n"


@pytest.mark.parametrize("output", ["text", "jsonl"])
def test_chat_through_pipes_tells_what_waits(project: CliProject, output: str) -> None:
    workflow_id = f"people-{uuid4().hex[:8]}"
    chat = project.start("chat", "doer", "-i", "web", "--id", workflow_id, "-o", output)
    chat.wait_for(f"Started {workflow_id}.")
    (wait,) = waits(project, workflow_id)
    how = f"perdure approve {workflow_id} {wait['id']}"
    if output == "text":
        chat.wait_for(f'{workflow_id} waits for approval: deploy(target="web") · {how}\n')
    else:
        assert chat.process.stdout is not None
        while "waits" not in (event := json.loads(chat.process.stdout.readline())):
            pass
        assert (event["kind"], event["waits"][0]["waits"][0]["id"]) == ("waits", wait["id"])
    project.invoke("approve", workflow_id)
    code, out = chat.end()
    assert code == 0
    assert "deployed web x 1" in out.splitlines()[-1]


async def test_who_decides(server: DevServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is taken from the system's records: variables are anybody's to set."""
    client = await connect(address=server.address)
    mine = decider(client)
    for name in ("USER", "LOGNAME", "USERNAME", "HOME"):
        monkeypatch.setenv(name, "somebody-else")
    assert decider(client) == mine
    assert mine.source == "os_user"
    assert "somebody" not in mine.name
