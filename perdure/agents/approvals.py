"""Who must approve what: the rules that users write, and how a tool is pinned by them. Both sides; pure."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from fnmatch import fnmatchcase
from typing import Any, Literal

from perdure.contracts.spec import ToolSpec
from perdure.contracts.waits import ApprovalRule
from perdure.errors import SettingsError

Rules = Sequence["ApprovalRule | Literal['strict']"] | Literal["strict"]
"""`strict` alone, or among rules, is the last rule: ask for every tool that isn't marked read-only."""

STRICT = ApprovalRule(decision="strict")


@dataclass(frozen=True, kw_only=True)
class ApprovalCall:
    """A call that the policy function of a tool, `@tool(needs_approval=function)`, is asked about."""

    tool: str
    arguments: Mapping[str, Any]
    """As the model wrote them, not converted to the function's types."""
    agent: str = ""
    """Whose call it is; empty for a step of a workflow."""
    workflow_id: str = ""
    context: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """The values that the run was started with."""


Policy = Callable[[ApprovalCall], Any]
"""Returns whether a call needs approval; or why, as a text; or an `ApprovalRule` that says who is asked, and until
when. It may be async. It runs in an activity, for up to ten seconds, and perhaps more than once."""


def read_rules(given: Rules) -> tuple[ApprovalRule, ...]:
    """Return rules in the order in which they are looked at.

    Raises:
        SettingsError: A rule makes no sense. Not retryable.
    """
    listed = [given] if isinstance(given, str) else list(given)
    rules: list[Any] = [STRICT if each == "strict" else each for each in listed]
    for rule in rules:
        if not isinstance(rule, ApprovalRule):
            raise SettingsError(f"approvals: {rule!r} is no rule: give ApprovalRule(…), or 'strict'.")
        check_rule(rule)
    return in_order(rules)


def in_order(rules: Iterable[ApprovalRule]) -> tuple[ApprovalRule, ...]:
    """Return rules with those that are strict about every tool at the end: they are the default."""
    listed = list(rules)
    return (*(rule for rule in listed if rule != STRICT), *(rule for rule in listed if rule == STRICT))


def check_rule(rule: ApprovalRule) -> None:
    """Refuse a rule that makes no sense.

    Raises:
        SettingsError: Not retryable.
    """
    is_asking = rule.decision in ("ask", "strict")
    faults = {
        "deadline_seconds should be more than 0": rule.deadline is not None and rule.deadline <= timedelta(0),
        "deadline_seconds is at most 10 years": rule.deadline is not None and rule.deadline > timedelta(days=3660),
        "on_deadline needs deadline_seconds": rule.on_deadline != "deny" and rule.deadline is None,
        "on_deadline = 'escalate' needs escalate_to": rule.on_deadline == "escalate" and not rule.escalate_to,
        "escalate_to needs on_deadline = 'escalate'": rule.escalate_to != "" and rule.on_deadline != "escalate",
        "group, deadline_seconds and escalate_to are for decision = 'ask'": not is_asking
        and bool(rule.group or rule.deadline or rule.escalate_to),
        "tool should be a name, or a pattern such as 'shell_*'": not rule.tool.strip(),
    }
    for fault, is_present in faults.items():
        if is_present:
            raise SettingsError(f"approvals: the rule for {rule.tool!r}: {fault}.")


def check_run_rules(rules: Iterable[ApprovalRule]) -> None:
    """Refuse rules of a run that would ask for less than the app does.

    Raises:
        SettingsError: Not retryable.
    """
    for rule in rules:
        check_rule(rule)
        if rule.decision == "allow":
            raise SettingsError(
                f"approvals: the rule for {rule.tool!r}: a run can ask for more approvals than the app, not for "
                "fewer: decision = 'allow' belongs to the App or [tool.perdure]."
            )


def pin(spec: ToolSpec, rules: Iterable[ApprovalRule]) -> ToolSpec:
    """Return a tool with what a call of it needs: by the first rule that matches, else by what the tool says.

    Tools that ask people, and handoffs, are under no rule: they do nothing outside of the run. A tool of an MCP
    server that nobody has accepted as it is described now is asked for, whatever rule allows its name.
    """
    pinned = _pin(spec, rules)
    if pinned.approval is None and pinned.mcp is not None and not pinned.mcp.is_accepted:
        return pinned.model_copy(update={"approval": ApprovalRule(tool=spec.name)})
    return pinned


def _pin(spec: ToolSpec, rules: Iterable[ApprovalRule]) -> ToolSpec:
    if spec.question is not None or spec.handoff:
        return spec
    rule = next((each for each in rules if fnmatchcase(spec.name, each.tool)), None)
    if rule is None or rule.decision == "strict":
        return _by_its_own(spec, rule)
    own: dict[str, Any] = {"approval_policy": "", "needs_approval": False, "approval": None}
    if rule.decision != "allow":
        own["approval"] = rule.model_copy(update={"tool": spec.name})
    return spec.model_copy(update=own)


def _by_its_own(spec: ToolSpec, strict: ApprovalRule | None) -> ToolSpec:
    is_default = strict is not None and not spec.read_only and not spec.agent
    if not spec.needs_approval and not is_default:
        return spec
    terms = strict or ApprovalRule()
    return spec.model_copy(update={"approval": terms.model_copy(update={"tool": spec.name, "decision": "ask"})})


def policy_name(policy: "bool | Policy") -> str:
    """Return what a run records of a policy function; empty for none."""
    if isinstance(policy, bool):
        return ""
    return getattr(policy, "__name__", type(policy).__name__)
