"""P3: stored histories of every release replay with today's code, in the sandbox and outside of it."""

import json
import re
from base64 import b64decode
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from temporalio.client import WorkflowHistory
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import Replayer, UnsandboxedWorkflowRunner

import perdure
from perdure.wiring import sandboxed_runner
from perdure.workflows.agent import AgentWorkflow
from perdure.workflows.interceptor import PerdureInterceptor
from perdure.workflows.map_workflows import MapNode, MapWorkflow
from perdure.workflows.memory import Memory
from perdure.workflows.plan_workflow import PlanWorkflow
from perdure.workflows.scoreboard import Scoreboard
from tests.support.approval_workflows import Asking, Stepping
from tests.support.cost_workflows import Desk
from tests.support.money_workflows import Generations, Spending
from tests.support.rerun_workflows import Chain
from tests.support.select_workflows import Choosing

REPLAYED: list[type] = [
    *(AgentWorkflow, MapNode, MapWorkflow, Memory, PlanWorkflow, Scoreboard),
    *(Asking, Chain, Choosing, Desk, Generations, Spending, Stepping),
]
HISTORIES = sorted((Path(__file__).parent / "histories").glob("*/*.json"))


def _case(path: Path) -> str:
    return path.stem.rsplit("-", 1)[0]


def _read(path: Path) -> WorkflowHistory:
    text = path.read_text()
    first = json.loads(text)["events"][0]["workflowExecutionStartedEventAttributes"]
    return WorkflowHistory.from_json(first["workflowId"], text)  # ids of children are made from it


def patches_of(history: Any) -> set[str]:
    """Return the patches that a run was made with."""
    markers = (event.get("markerRecordedEventAttributes", {}) for event in history["events"])
    details = (marker["details"] for marker in markers if marker.get("markerName") == "core_patch")
    payloads = (payload for each in details for told in each.values() for payload in told["payloads"])
    return {json.loads(b64decode(payload["data"]))["id"] for payload in payloads}


def _replayer(*, is_sandboxed: bool) -> Replayer:
    return Replayer(
        workflows=REPLAYED,
        data_converter=pydantic_data_converter,
        interceptors=[PerdureInterceptor()],
        workflow_runner=sandboxed_runner(),
        unsandboxed_workflow_runner=sandboxed_runner() if is_sandboxed else UnsandboxedWorkflowRunner(),
    )


def test_there_are_histories_of_every_ending() -> None:
    cases = {_case(path) for path in HISTORIES}
    assert cases >= {"session"}
    assert cases >= {"plan-written", "plan-steered"}
    assert cases >= {
        "tools",
        "structured",
        "limit",
        "failed",
        "continued",
        "cancelled",
        "saved",
        "map",
        "map-node",
        "queues",
        "crowded",
        "forgetful",
    }
    assert cases >= {"select-rules", "select-learned", "select-model", "scoreboard"}
    assert cases >= {
        "money-single",
        "money-tree",
        "money-member",
        "money-map",
        "money-node",
        "money-item",
        "money-plan",
        "money-own",
    }
    assert cases >= {"money-below", "money-again", "money-asking", "money-asking-node", "money-asking-item"}
    assert cases >= {"fork", "memory", "bill", "bill-own"}
    assert cases >= {"approvals", "questions", "asking", "stepping"}
    assert cases >= {"plan-before", "plan-auto"}  # the first was recorded before plans told of outcomes


NOT_STORED = {
    "perdure.lost-outcomes": "needs a map whose outcomes can't be read",
    "perdure.outgoing": "takes megabytes; tests/long/test_outgoing.py replays what it makes",
    "perdure.session-answered": "takes milliseconds to hit; tests/unit/workflows/test_sessions.py drives the code",
}


def test_there_is_a_history_with_every_patch() -> None:
    """One that is missing is recorded by tests/replay/recording.py."""
    code = "".join(path.read_text() for path in Path(perdure.__file__).parent.rglob("workflows/*.py"))
    patches = set(re.findall(r'PATCH(?:: Final)? = "(.+)"', code))
    assert len(patches) > 15
    known = {patch for path in HISTORIES for patch in patches_of(json.loads(path.read_text()))}
    assert patches - known == NOT_STORED.keys()


async def _read_all() -> AsyncIterator[WorkflowHistory]:
    for path in HISTORIES:
        yield _read(path)


@pytest.mark.parametrize("is_sandboxed", [False, True], ids=["outside", "sandboxed"])
async def test_they_replay(is_sandboxed: bool) -> None:
    """With one replayer for all: making the sandbox of a worker takes longer than a replay."""
    replayer = _replayer(is_sandboxed=is_sandboxed)
    failed: list[str] = []
    count = 0
    async with replayer.workflow_replay_iterator(_read_all()) as results:
        async for result in results:
            if result.replay_failure is not None:
                failed.append(f"{result.history.workflow_id}: {result.replay_failure}")
            count += 1
    assert not failed
    assert count == len(HISTORIES)


async def test_a_replay_can_fail() -> None:
    """An event of another activity must be found; otherwise the tests above say nothing."""
    path = next(path for path in HISTORIES if path.stem == "tools-0")
    changed = path.read_text().replace('"perdure.call_model"', '"perdure.call_something"')
    with pytest.raises(Exception, match="Nondeterminism"):
        await _replayer(is_sandboxed=False).replay_workflow(WorkflowHistory.from_json("replayed", changed))
