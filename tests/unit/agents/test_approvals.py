"""Which rule holds for a tool, and which rules make no sense."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from perdure import App, ApprovalCall, ApprovalRule, ask_human_tool, tool
from perdure.agents.approvals import check_run_rules, in_order, pin, read_rules
from perdure.contracts.spec import ToolSpec
from perdure.errors import InvalidToolError, SettingsError


@tool(needs_approval=True)
def shell_run(line: str) -> str:
    """Run."""
    return line


@tool(read_only=True)
def look() -> str:
    """Look."""
    return "seen"


@tool
def write() -> str:
    """Write."""
    return "written"


def much(call: ApprovalCall) -> bool:
    return call.arguments["amount"] > 100


@tool(needs_approval=much)
def pay(amount: int) -> int:
    """Pay."""
    return amount


def decision(spec: ToolSpec, *rules: ApprovalRule) -> str:
    pinned = pin(spec, in_order(rules))
    if pinned.approval is None:
        assert not pinned.needs_approval, "a run of an older worker would deny it"
        return "allow"
    return "policy" if pinned.approval_policy else pinned.approval.decision


ALLOW = ApprovalRule(tool="shell_*", decision="allow")
DENY = ApprovalRule(tool="*_run", decision="deny")
STRICT = ApprovalRule(decision="strict")


@pytest.mark.parametrize(
    ("spec", "rules", "expected"),
    [
        (write.spec, [], "allow"),
        (shell_run.spec, [], "ask"),
        (pay.spec, [], "policy"),
        (shell_run.spec, [ALLOW, DENY], "allow"),
        (shell_run.spec, [DENY, ALLOW], "deny"),
        (write.spec, [DENY, ALLOW], "allow"),
        (write.spec, [STRICT], "ask"),
        (look.spec, [STRICT], "allow"),
        (pay.spec, [STRICT], "policy"),
        (shell_run.spec, [STRICT, ALLOW], "allow"),
        (pay.spec, [ApprovalRule(tool="pay")], "ask"),
        (pay.spec, [ApprovalRule(tool="p?y", decision="allow")], "allow"),
        (ToolSpec(name="helper", parameters={}, agent="helper"), [STRICT], "allow"),
        (ToolSpec(name="helper", parameters={}, agent="helper"), [ApprovalRule(tool="*")], "ask"),
        (ToolSpec(name="handoff_to_x", parameters={}, handoff="x"), [ApprovalRule(tool="*")], "allow"),
        (ask_human_tool().spec, [ApprovalRule(tool="*", decision="deny")], "allow"),
    ],
)
def test_the_first_rule_that_matches_holds(spec: ToolSpec, rules: list[ApprovalRule], expected: str) -> None:
    assert decision(spec, *rules) == expected


def test_a_rule_that_asks_is_pinned_with_its_terms() -> None:
    rule = ApprovalRule(
        tool="w*", group="ops", deadline=timedelta(hours=1), on_deadline="escalate", escalate_to="a"
    )
    pinned = pin(write.spec, [rule])
    assert pinned.approval == rule.model_copy(update={"tool": "write"})
    terms = ApprovalRule(tool="s*", decision="strict", group="ops")
    assert pin(shell_run.spec, [terms]).approval == ApprovalRule(tool="shell_run", group="ops")


@pytest.mark.parametrize(
    ("rule", "problem"),
    [
        ({"deadline": timedelta(0)}, "should be more than 0"),
        ({"deadline": timedelta(days=4000)}, "at most 10 years"),
        ({"on_deadline": "fail"}, "needs deadline_seconds"),
        ({"on_deadline": "escalate", "deadline": timedelta(1)}, "needs escalate_to"),
        ({"escalate_to": "x"}, "needs on_deadline = 'escalate'"),
        ({"decision": "deny", "group": "x"}, "are for decision = 'ask'"),
        ({"tool": " "}, "a name, or a pattern"),
    ],
)
def test_a_rule_that_makes_no_sense(rule: dict[str, Any], problem: str) -> None:
    with pytest.raises(SettingsError, match=problem):
        App(approvals=[ApprovalRule(**rule)])


def test_strict_is_the_default_wherever_it_stands() -> None:
    assert read_rules("strict") == (STRICT,)
    assert read_rules(["strict", ALLOW]) == (ALLOW, STRICT)
    assert App(approvals=["strict", ALLOW]).approvals == (ALLOW, STRICT)
    with pytest.raises(SettingsError, match="'lax' is no rule"):
        App(approvals=["lax"])  # pyright: ignore[reportArgumentType]


def test_a_run_can_not_ask_for_less() -> None:
    check_run_rules([ApprovalRule(tool="*"), DENY, STRICT])
    with pytest.raises(SettingsError, match="a run can ask for more approvals"):
        check_run_rules([ALLOW])


def test_a_policy_is_part_of_a_tool() -> None:
    def other(amount: int) -> int:
        return amount

    again = tool(name="pay", needs_approval=much)(other)
    assert pay.policy is much
    assert pay.spec.approval_policy == "much"
    assert not pay.is_same(again)


def test_tools_that_ask() -> None:
    made = ask_human_tool(name="ask", output=int, timeout=timedelta(hours=1), group="desk")
    assert (made.name, list(made.spec.parameters["properties"])) == ("ask", ["question"])
    assert made.spec.question is not None
    assert made.spec.question.answer == {"type": "integer"}
    assert "choices" in ask_human_tool().spec.parameters["properties"]
    with pytest.raises(InvalidToolError, match="timeout must be positive"):
        ask_human_tool(timeout=timedelta(0))
    with pytest.raises(InvalidToolError, match="Cannot generate a JsonSchema"):
        ask_human_tool(output=Callable[[int], int])
