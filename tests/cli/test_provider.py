"""`perdure provider` without a server: what is known here, and what can't be limited."""

import json

import pytest

from perdure.cli._providers import ProviderView, print_providers, print_queue
from perdure.client._providers import QueueState
from perdure.contracts.workers import ProviderLimit, ProviderState
from tests.cli.conftest import Project

QUEUED = '\n[tool.perdure.providers.openai]\ntask_queue = "openai-calls"\n'


def test_the_list_tells_keys_but_shows_none(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    told = project.run("provider", "list").output
    assert "OPENAI_API_KEY is set" in told
    assert "ANTHROPIC_API_KEY is not set" in told
    assert "sk-secret" not in told


def test_the_list_without_a_server(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    with (project.folder / "pyproject.toml").open("a") as file:
        file.write(QUEUED)
    monkeypatch.setenv("TEMPORAL_ADDRESS", "127.0.0.1:1")
    result = project.run("provider", "list", "-o", "json")
    assert result.exit_code == 0
    [openai] = [each for each in json.loads(result.stdout) if each["name"] == "openai"]
    assert (openai["task_queue"], openai["queue"]) == ("openai-calls", None)
    assert "Without Task Queues and workers" in result.stderr


def test_a_provider_without_a_queue_has_no_limit(project: Project) -> None:
    told = project.fail("provider", "limit", "openai", "50", code=4)
    assert "Set task_queue in [tool.perdure.providers.openai], and restart the workers." in told


@pytest.mark.parametrize("rate", ["many", "", "1s"])
def test_no_rate(project: Project, rate: str) -> None:
    with (project.folder / "pyproject.toml").open("a") as file:
        file.write(QUEUED)
    assert "is no number of calls a second" in project.fail("provider", "limit", "openai", rate, code=2)


def test_an_unknown_provider_in_the_settings(project: Project) -> None:
    with (project.folder / "pyproject.toml").open("a") as file:
        file.write('\n[tool.perdure.providers.opnai]\ntask_queue = "x"\n')
    told = project.fail("provider", "list", code=4)
    assert "there is no provider 'opnai'. Did you mean 'openai'?" in told


def test_what_a_limit_says(capsys: pytest.CaptureFixture[str]) -> None:
    state = QueueState(task_queue="q", workers=0, backlog=7, max_requests_per_second=50, set_by="set by somebody")
    print_queue("openai", state, "text")
    out, err = capsys.readouterr()
    assert out == "openai: 50 calls a second (set by somebody), 7 waiting in 'q'.\n"
    assert "no worker polls the Task Queue 'q'" in err


STATE = ProviderState(
    provider="openai",
    circuit="open",
    failures=5,
    probe_in_seconds=1.5,
    refusals=3,
    held_seconds=7,
    sharers=2,
    limits=(
        ProviderLimit(counted="requests", per_minute=1200),
        ProviderLimit(counted="tokens", per_minute=40_000),
    ),
)
VIEW = ProviderView(
    name="openai",
    protocol="openai",
    base_url="",
    key_set="yes",
    key_env="OPENAI_API_KEY",
    workers={"7@a": [STATE]},
)


def test_what_workers_know(capsys: pytest.CaptureFixture[str]) -> None:
    print_providers([VIEW], "text")
    told = capsys.readouterr().out
    assert "open, 5 outages, tried again in 1.5 s" in told
    assert "held for 7 s" in told
    assert "1200 requests, 40000 tokens, shared by 2 workers" in told


@pytest.mark.parametrize("output", ["json", "jsonl"])
def test_what_workers_know_as_data(output: str, capsys: pytest.CaptureFixture[str]) -> None:
    print_providers([VIEW], output)
    found = json.loads(capsys.readouterr().out)
    [openai] = found if output == "json" else [found]
    [state] = openai["workers"]["7@a"]
    assert (state["circuit"], state["pace"], state["limits"][1]["per_minute"]) == ("open", 1, 40_000)
