"""What goes into an agent's run and what comes out of it. Both sides."""

import json
from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field, JsonValue

from perdure.contracts._base import Contract
from perdure.contracts.bill import Bill
from perdure.contracts.budget import (
    NONE_UNCOUNTED,
    Amount,
    Budget,
    Lease,
    Ledger,
    PromptSize,
    Uncounted,
    amount_of,
)
from perdure.contracts.calls import McpSession
from perdure.contracts.fork import Fork, ForkedFrom
from perdure.contracts.limits import Limits
from perdure.contracts.messages import (
    InputPart,
    Message,
    TextPart,
    ToolResultPart,
    tell_edit,
)
from perdure.contracts.names import MAIN_CONVERSATION
from perdure.contracts.steering import CarriedInbox, Session
from perdure.contracts.usage import NO_USAGE, Usage
from perdure.contracts.waits import ApprovalRule, WaitsState

RunState = Literal[
    "starting",
    "working",
    "waiting_limit",
    "waiting_approval",
    "waiting_answer",
    "paused",
    "idle",
    "finishing",
    "completed",
    "failed",
    "cancelled",
]


class Counters(Contract):
    """What a run has done so far; it goes along when the run continues as new."""

    turns: int = 0
    model_calls: int = 0
    tool_calls: int = 0
    usage: Usage = NO_USAGE
    unusable: int = 0
    """Replies in a row that could not be used."""
    failing_turns: int = 0
    """Turns in a row in which every tool call failed."""
    rejections: int = 0
    """Answers that a verifier sent back."""
    handoffs: tuple[str, ...] = ()
    """The agents that had the conversation before the present one, in order."""
    saved_tool_calls: int = 0
    """Of `tool_calls`, those that were answered by another call's result."""
    saved_model_calls: int = 0
    """Of `model_calls`, likewise."""
    saved_usage: Usage = NO_USAGE
    """What the saved model calls would have used; `usage` is what was used."""
    copied_turns: int = 0
    """Turns of the conversation that another run took, and paid: a fork's. They count for nothing else here."""

    @property
    def turn(self) -> int:
        """Number of the last turn in the conversation, as a transcript counts them."""
        return self.copied_turns + self.turns

    @property
    def taken(self) -> Amount:
        """What it takes of limits; an unknown cost is none."""
        return amount_of(self.usage, model_calls=self.model_calls, tool_calls=self.tool_calls)


class KnownResult(Contract):
    """A tool call whose result answers identical ones."""

    digest: str
    """Of the tool, as it was pinned, and the arguments."""
    slot: int
    """Where the result is in the conversation."""


class EarlierRun(Contract):
    """A closed run whose work is kept."""

    workflow_id: str
    run_id: str


class ResumedCall(Contract):
    """A subagent's run that was cut off."""

    slot: int
    """The slot that its answer fills."""
    run: EarlierRun


class ResumedTurn(Contract):
    """The turn that a run was in when it ended, for the one that goes on: what its tool calls came to."""

    kept: tuple[int, ...] = ()
    """Slots of results that are there, beyond those that are copied in one piece."""
    unknown: tuple[int, ...] = ()
    """Slots of calls that may have taken effect, of tools that aren't idempotent: they are not made again."""
    calls: tuple[ResumedCall, ...] = ()


class Answered(Contract):
    """The answer of a session that waits for the next message: the last message of its conversation."""

    at: datetime
    limit: str | None = None
    """The limit that ended the work on it, if one did."""
    score: float | None = None
    """The verifier's, if it gave one."""


class Carried(Contract):
    """What a run hands to its successor when it continues as new. The conversation is not in it."""

    from_run_id: str
    spec: str
    """Digest of the pinned `AgentSpec`."""
    conversation_slots: int
    """Length of the conversation that the new run copies from the closed one."""
    started_at: datetime
    """When the first run of the chain started."""
    epoch: int = 0
    counters: Counters = Counters()
    ledger: Ledger | None = None
    """Set where limits of money or tokens hold."""
    raised: Limits = Limits()
    """Limits that were set while the run was open, over those of the spec."""
    known_results: tuple[KnownResult, ...] = ()
    """Results that identical calls of tools with `cache="run"` are answered with; the latest."""
    first_run_id: str = ""
    """First run of the chain that was started again: its idempotency keys go on. Empty for the run's own chain."""
    prompt: PromptSize | None = None
    """The last prompt that was counted, for knowing when the conversation nears the context window."""
    resumed: ResumedTurn | None = None
    """Set on the first run of one that was started again, and where a turn waits for a person."""
    waits: WaitsState = WaitsState()
    inbox: CarriedInbox | None = None
    """Messages that were sent to it, where any were."""
    is_paused: bool = False
    pause_seq: int = 0
    """The last notice of the parent to pause or to go on."""
    answered: Answered | None = None
    """Set where a session waits for the next message."""
    answered_turns: int = 0
    """Turns that a session had taken when it answered last: `max_turns` counts from there."""
    fork: Fork | None = None
    """Set on the first run of a fork."""
    sessions: tuple[McpSession, ...] = ()
    """Those with stateful MCP servers."""
    bill: Bill = Bill()
    """What the chain has paid itself."""
    uncounted: Uncounted = NONE_UNCOUNTED
    """What closed runs below it took before it had a ledger."""
    digest: str = ""
    """Of the messages that the new run copies, as they were recorded; empty where the code that knows them isn't a
    workflow's."""


class AnswersCall(Contract):
    """Which tool call of the parent's conversation a child run answers."""

    slot: int
    """The slot that the answer fills."""
    call_id: str
    name: str
    """The tool."""
    conversation: str = MAIN_CONVERSATION
    epoch: int = 0
    edited: str = ""
    """The arguments that a person put in place of the model's."""


class RunInput(Contract):
    """Start an agent on an input."""

    agent: str
    input: tuple[InputPart, ...] = ()
    limits: Limits = Limits()
    """Over the agent's own."""
    context: dict[str, JsonValue] | None = None
    """Values for instructions and tools. They are readable in Event History: no secrets."""
    tenant: str = ""
    depth: int = 0
    """How many runs of agents are above this one."""
    answers: AnswersCall | None = None
    """Set on a subagent's run."""
    verify: str = ""
    """Who judges the answer: a verifier's name; the agent's own when empty."""
    task_kind: str = ""
    """The `Task.kind` of the work, for those who judge it."""
    carried: Carried | None = None
    """Set by perdure when a run continues as new."""
    lease: Lease | None = None
    """Set on a child whose parent has a limit of money or tokens: its part of that."""
    spent: Amount | None = None
    """Set on a run that was started again: what those before it have taken of its limits."""
    approvals: tuple[ApprovalRule, ...] = ()
    """Over those of the app: a run can ask for more, not for less."""
    session: Session | None = None
    """Set on a run that takes message after message."""
    inbox: CarriedInbox | None = None
    """Messages that wait already: of a run that is started again from its beginning."""
    forked: ForkedFrom | None = None
    """Set on a fork."""

    def first_bill(self) -> Bill:
        """Return what those before it in its chain have paid, without those that it was started again from."""
        if self.carried is None:
            return Bill()
        is_again = self.spent is not None or bool(self.carried.first_run_id)
        if is_again or self.carried.bill.items:
            return self.carried.bill
        before_bills = self.carried.counters.usage
        return Bill().plus(self.agent, "", before_bills)


class RunResult(Contract):
    """The outcome of an agent's run."""

    output: JsonValue = None
    """Text, or the JSON of the agent's output type."""
    output_slot: int | None = None
    """Set instead of `output` where that is too large for a result: the slot of the last message."""
    agent: str
    counters: Counters = Counters()
    limit: str | None = None
    """The limit that ended the work, when the agent was asked to finish with what it had."""
    model: str = ""
    """The model that gave the answer."""
    score: float | None = None
    """The verifier's, 0 to 1, if it gave one."""
    settled: Amount | None = None
    """What the run and its children took of the parent's budget; None where it has no lease."""
    below: Uncounted | None = None
    """What its children took, for a parent that may set a limit later; None where that is nothing, or settled."""


def answer_message(call: AnswersCall, result: RunResult) -> Message:
    """Return the message with which a subagent's result answers the call."""
    text = result.output if isinstance(result.output, str) else json.dumps(result.output, ensure_ascii=False)
    part = ToolResultPart(call_id=call.call_id, name=call.name, content=(TextPart(text=text),))
    message = Message(role="tool", parts=(part,))
    return tell_edit(message, call.edited) if call.edited else message


class RunStatus(Contract):
    """A run at a glance; the answer to the query `perdure.status`."""

    agent: str
    state: RunState
    slots: int
    epoch: int = 0
    counters: Counters = Counters()
    limits: Limits = Limits()
    activity: str = ""
    """What the run is doing or waiting for, in words."""
    conversation: str
    spec: str = ""
    """Digest of the pinned `AgentSpec`; empty before it is loaded."""
    spent: Amount | None = None
    """Settled, as limits count it; None where no limit of money or tokens holds."""
    reserved: Amount | None = None
    """Held back for what is open."""
    budget: Budget | None = None
    """What may be spent in all."""
    waiting: int = 0
    """Messages that were sent to it, and wait for the next turn."""
    received: int = 0
    """Messages that were sent to it in all."""
    is_session: bool = False


class MessagesQuery(Contract):
    """Ask for slots `start` to `stop` of a conversation."""

    conversation: str
    start: Annotated[int, Field(ge=0)] = 0
    stop: Annotated[int, Field(ge=0)] | None = None
    epoch: int | None = None
    """The epoch that the slots belong to; the current one when None."""


class MessagesPage(Contract):
    """Consecutive slots, as many as fit into 1 MB."""

    start: int
    total: int
    """Length of the conversation."""
    messages: tuple[Message, ...] = ()
