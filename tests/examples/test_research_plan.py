"""The research example's plan: researchers at once, then a writer whose report is verified; offline."""

import json
import runpy
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from research.app import app, names_sources  # pyright: ignore[reportMissingImports]
from temporalio.client import Client

from perdure.client.plan_files import read_plan
from perdure.contracts.names import PLAN_WORKFLOW
from perdure.contracts.plan import PlanRunInput
from tests.fakes.conversing import ConversingServer
from tests.fakes.replies import FakeReply
from tests.support.workers import worker

ROOT = Path(__file__).parents[2]


async def test_the_plan_runs_without_a_key(temporal: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESEARCH_ROOT", str(ROOT / "docs"))
    plan, faults = read_plan((ROOT / "examples" / "research" / "plan.yaml").read_text(), app.agents)
    assert faults == []
    assert plan is not None
    async with worker(app, temporal) as client:
        run = await client.start_workflow(PLAN_WORKFLOW, [PlanRunInput(plan=plan)])
        result: Any = await client.result(run.workflow_id, timeout=timedelta(seconds=60))
    assert [(each.id, each.state) for each in result.tasks] == [
        (name, "done") for name in ("worker", "server", "stop", "report")
    ]
    report = result["report"].output
    quoted = [line for line in report.splitlines() if line.startswith("- ")]
    found = "\n".join(str(result[name].output) for name in ("worker", "server", "stop"))
    assert len(quoted) >= 2
    assert all(line in found for line in quoted), "the writer made something up"
    assert {line.count("[source: ") for line in quoted} == {1}


FINDING = "Calls that were in flight are made again by the next worker. [source: crashes.md:8]"


def decide(_: int, messages: list[dict[str, Any]]) -> FakeReply:
    """Plan two tasks, answer them, and write a report whose first version names no source."""
    system = messages[0]["content"]
    if system.startswith("Split the question"):
        tasks = [{"id": name, "agent": "researcher", "input": f"The {name}?"} for name in ("worker", "server")]
        return FakeReply(text=json.dumps({"tasks": tasks}))
    if system.startswith("You write a report"):
        is_sent_back = messages[-1]["role"] == "user" and "Name the source" in str(messages[-1]["content"])
        return FakeReply(text=FINDING if is_sent_back else FINDING.partition(" [")[0])
    return FakeReply(text=FINDING)


async def test_a_model_plans_and_answers(temporal: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESEARCH_MODEL", "openai:fake")
    planned = runpy.run_path(str(ROOT / "examples" / "research" / "research" / "app.py"))["app"]
    async with ConversingServer(decide) as fake:
        for name, value in fake.env.items():
            monkeypatch.setenv(name, value)
        request = PlanRunInput(goal="What happens in a crash?", planner="planner", synthesiser="writer")
        async with worker(planned, temporal) as client:
            run = await client.start_workflow(PLAN_WORKFLOW, [request])
            result: Any = await client.result(run.workflow_id, timeout=timedelta(seconds=60))
    assert {each.id for each in result.tasks} == {"worker", "server"}
    assert result.answer == FINDING
    assert len(fake.asked) == 5, "a plan, two findings, a report, and the report once more"


def test_a_report_without_sources_is_sent_back() -> None:
    claim = "Every call that was in flight is made again as soon as another worker is there."
    assert names_sources(f"- {claim} [source: crashes.md:8]\n\n(by rules)") is None
    assert (names_sources(claim) or "").endswith(claim)
