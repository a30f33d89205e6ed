"""An agent that needs people, and what is expected of its runs: for `tests.unit.workflows.test_steering`."""

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from perdure.contracts.limits import Limits
from perdure.contracts.messages import ToolCallPart
from perdure.contracts.spec import AgentSpec, ModelSpec, ToolSpec
from perdure.contracts.waits import ApprovalRule, Decider, DecideRequest, QuestionTerms

ANY = {"type": "object"}
IDLE = timedelta(hours=1)
SPEC = AgentSpec(
    name="a",
    models=(ModelSpec(name="fake:x"),),
    limits=Limits(max_consecutive_errors=1000),
    tools=(
        ToolSpec(name="look", parameters=ANY, idempotent=True),
        ToolSpec(name="deploy", parameters=ANY, approval=ApprovalRule(deadline=2 * IDLE)),
        ToolSpec(name="ask", parameters=ANY, question=QuestionTerms()),
    ),
)
BY = Decider(name="ada", source="os_user")
EDITED = '{"n": "as a person wants it"}'


@dataclass
class Told:
    """What is known of a wait: the call that waits, and how it was decided."""

    call: str
    deadline: datetime | None
    verdict: str = ""
    decision: str = ""


EXPECTED = {
    ("look", ""): "seen",
    ("deploy", ""): "seen",  # approved for the rest of the run
    ("deploy", "approve"): "seen",
    ("deploy", "deny"): "Not run: a person denied it. Not now.",
    ("deploy", "expired"): "Not run: nobody approved it in time.",
    ("ask", "answer"): "blue",
}
"""What the model is told of a call."""


def call_of(id: str, tool: str) -> ToolCallPart:
    return ToolCallPart(id=id, name=tool, arguments=json.dumps({"n": id, "question": f"Which, for {id}?"}))


def decision_of(wait: str, verdict: str, id: str) -> DecideRequest:
    given: dict[str, Any] = {
        "approve": {"verdict": "approve"},
        "always": {"verdict": "approve", "is_always": True},
        "edit": {"verdict": "approve", "arguments": EDITED},
        "deny": {"verdict": "deny", "reason": "Not now."},
        "answer": {"verdict": "answer", "answer": "blue"},
    }
    return DecideRequest(wait=wait, by=BY, id=id, **given[verdict])
