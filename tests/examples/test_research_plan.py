"""The research example's plan: researchers at once, then a writer whose report is verified; offline."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from research.app import app, names_sources  # pyright: ignore[reportMissingImports]
from temporalio.client import Client

from perdure.client.plan_files import read_plan
from perdure.contracts.names import PLAN_WORKFLOW
from perdure.contracts.plan import PlanRunInput
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


def test_a_report_without_sources_is_sent_back() -> None:
    claim = "Every call that was in flight is made again as soon as another worker is there."
    assert names_sources(f"- {claim} [source: crashes.md:8]\n\n(by rules)") is None
    assert (names_sources(claim) or "").endswith(claim)
