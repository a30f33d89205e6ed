"""What a run waits for a person for, and what the person says. Both sides."""

from datetime import datetime, timedelta
from typing import Any, Literal

from pydantic import AliasChoices, Field, JsonValue

from perdure.contracts._base import Contract
from perdure.contracts.names import MAIN_CONVERSATION

RuleDecision = Literal["ask", "allow", "deny", "strict"]
OnDeadline = Literal["deny", "fail", "escalate"]
WaitKind = Literal["approval", "question"]
WaitOutcome = Literal["approved", "denied", "answered", "expired"]

MAX_ARGUMENT_BYTES = 256_000
"""Of edited arguments and of an answer. Edited arguments are recorded twice: with the decision and the call."""
MAX_REASON_CHARS = 1000


class ApprovalRule(Contract):
    """Who must approve calls of some tools; also what users write. The first rule that matches a tool holds."""

    tool: str = "*"
    """Names that it is for: `*` is any text, `?` any character."""
    decision: RuleDecision = "ask"
    """`ask` a person, `allow` or `deny` without asking. `strict` leaves it to the tool's own `needs_approval`, and
    asks where that says nothing and the tool isn't `read_only`."""
    group: str = ""
    """Whom it waits for: what `perdure inbox --group` looks for."""
    deadline: timedelta | None = Field(
        default=None,
        serialization_alias="deadline_seconds",
        validation_alias=AliasChoices("deadline_seconds", "deadline"),
    )
    """Time for a decision; no end when None."""
    on_deadline: OnDeadline = "deny"
    """What then happens: the call is denied, the run fails, or `escalate_to` is asked for as long again; when that
    group says nothing either, the call is denied."""
    escalate_to: str = ""
    """The group that is asked next."""


class QuestionTerms(Contract):
    """How a tool asks people; set on a tool that does."""

    answer: dict[str, Any] | None = None
    """JSON schema of an answer; text when None."""
    group: str = ""
    timeout: timedelta | None = Field(
        default=None,
        serialization_alias="timeout_seconds",
        validation_alias=AliasChoices("timeout_seconds", "timeout"),
    )
    """After which the model is told that nobody answered."""


class Wait(Contract):
    """Something that a person is to decide."""

    id: str
    """Stands for exactly this call with these arguments, or this question; the same after Continue-As-New."""
    kind: WaitKind
    asked_at: datetime
    deadline: datetime | None = None
    group: str = ""
    agent: str = ""
    """Who asks; empty for a workflow of the user's own."""
    tool: str = ""
    arguments: str = ""
    """The arguments as the model wrote them; the first 4,000 characters."""
    is_cut: bool = False
    """There are more: they are in the message of the call."""
    call_slot: int | None = None
    """The message with the call, and which of its calls it is."""
    index: int = 0
    conversation: str = MAIN_CONVERSATION
    reason: str = ""
    """What the agent said with the call; the first 1,000 characters."""
    note: str = ""
    """Why it needs approval, where the tool's policy said so."""
    question: str = ""
    answer: dict[str, Any] | None = None
    """JSON schema of the answer; text when None."""
    on_deadline: OnDeadline = "deny"
    escalate_to: str = ""
    term: timedelta | None = Field(
        default=None,
        serialization_alias="term_seconds",
        validation_alias=AliasChoices("term_seconds", "term"),
    )
    """Time for one group to decide."""
    escalated_from: str | None = None
    """The group that said nothing."""


class Decider(Contract):
    """Who decided, by what the connection was opened with; never what somebody typed."""

    name: str
    source: Literal["certificate", "api_key", "os_user"]


class DecideRequest(Contract):
    """The argument of the update `perdure.decide`."""

    wait: str
    verdict: Literal["approve", "deny", "answer"]
    by: Decider
    id: str
    """Of the decision itself: the same delivered twice is one decision."""
    arguments: str | None = None
    """JSON of the arguments to run instead of the model's."""
    reason: str = ""
    is_always: bool = False
    """Approve calls of the tool for the rest of the run."""
    answer: JsonValue = None


class Decision(Contract):
    """What became of a wait."""

    wait: str
    outcome: WaitOutcome
    at: datetime
    by: Decider | None = None
    """None where nobody decided in time."""
    id: str = ""
    tool: str = ""
    is_edited: bool = False
    is_always: bool = False
    reason: str = ""


class WaitsState(Contract):
    """What a run knows of its waits; it goes along when the run continues as new, in short."""

    pending: tuple[Wait, ...] = ()
    """Without texts, arguments and schemas: these are in the conversation. Notes take 50 kB together."""
    unused: tuple[DecideRequest, ...] = ()
    """Decisions that were made, and that the run has not acted on yet."""
    decided: tuple[Decision, ...] = ()
    """The latest, so that a second decision is told from an unknown call."""
    allowed: tuple[str, ...] = ()
    """Tools approved for the rest of the run."""


class WaitsPage(Contract):
    """The answer to the query `perdure.waits`: as many as fit into 1 MB."""

    waits: tuple[Wait, ...] = ()
    total: int = 0
    decided: tuple[Decision, ...] = ()
    """The latest 50."""


class CheckApprovalRequest(Contract):
    """Ask the policy function of a tool about one call. Nothing of it is recorded."""

    tool: str
    arguments: str
    agent: str = ""
    context: dict[str, JsonValue] | None = None


class ApprovalAdvice(Contract):
    """What the policy function said."""

    decision: Literal["ask", "allow", "deny"] = "ask"
    reason: str = ""
    rule: ApprovalRule | None = None
    """Group and deadline for this call, where the function names them."""


class OpenWaitResult(Contract):
    """What a workflow of the user's own must know before it can be found by what it waits for."""

    search_attributes: tuple[str, ...] = ()
    """Those of perdure's that the server has."""
