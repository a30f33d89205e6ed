"""Inputs and results of perdure's activities. Both sides.

They are references. A message is written into Event History by whoever makes it, and pointed at ever after.
"""

from datetime import datetime
from typing import Annotated

from pydantic import Field, JsonValue

from perdure.contracts._base import Contract
from perdure.contracts.compaction import CompactedPart, CompactionStep, Room, SummaryAsk
from perdure.contracts.limits import Limits
from perdure.contracts.messages import Message
from perdure.contracts.names import MAIN_CONVERSATION
from perdure.contracts.spec import AgentSpec, SpecChanges, ToolSpec
from perdure.contracts.usage import Usage
from perdure.contracts.waits import ApprovalRule


class LoadAgentRequest(Contract):
    """Turn an agent's name into the spec that the run is pinned to."""

    agent: str
    limits: Limits = Limits()
    context: dict[str, JsonValue] | None = None
    verify: str = ""
    """Who judges the answers, in place of the agent's own verifier."""
    approvals: tuple[ApprovalRule, ...] = ()
    """Of the run, over those of the app."""


class FirstAttributesRequest(Contract):
    """Ask what the runs of an agent are to be found by."""

    agent: str
    tenant: str = ""


class FirstAttributes(Contract):
    """The search attributes that runs of an agent are started with, so that none has to write them itself."""

    values: dict[str, str] | None = None
    """Those that the server has, by name; None where the agent has none, or can't be run."""


class SlotMessage(Contract):
    """A message and the slot that it fills."""

    slot: int
    message: Message
    same_as: int | None = None
    """The slot of a tool's result that this one repeats; `message` is without its content then."""
    sent: str = ""
    """The id of a message that was sent to the run, and recorded when it came; `message` is empty then."""


class CallModelRequest(Contract):
    """Ask the model for the message after the first `slots` of a conversation."""

    spec: str
    """Digest of the run's `AgentSpec`."""
    slots: Annotated[int, Field(ge=1)]
    """The prompt is slots 0 to `slots` - 1, and the reply fills slot `slots`."""
    epoch: int = 0
    conversation: str = MAIN_CONVERSATION
    new: tuple[SlotMessage, ...] = ()
    """Short messages that workflow code made since the last call. Longer ones are looked up."""
    model: int = 0
    """Index into the spec's models."""
    is_final: bool = False
    """The last call: no tools, answer with what there is."""
    max_output_tokens: int | None = None
    max_prompt_tokens: int | None = None
    """What the prompt was taken for when its worst case was reserved: with it, that can be read from history."""
    is_metered: bool = False
    """Its worst case is reserved, for one attempt that may be billed: another needs a reservation of its own."""
    tries: int = 0
    """Attempts that failed before this call, each settled."""
    tenant: str = ""
    """Who the run is for, where the call may be shared."""
    summary: SummaryAsk | None = None
    """Ask for a summary of the older part instead; the reply fills no slot."""
    digest: str = ""
    """Of the prompt's messages as they were recorded: a worker that remembers others looks them up. Empty in calls
    of before there was this."""


class CallModelResult(Contract):
    """The model's message, and whether it can be used."""

    message: Message
    usage: Usage
    problem: str = ""
    """Why the reply can't be used, in words for the model; empty when it can."""
    saved: Usage | None = None
    """What the call would have used, where another run's call answered it."""
    compacted: tuple[CompactedPart, ...] = ()
    """How the next epoch is made, where a summary was asked for."""


class CompactRequest(Contract):
    """Make room in a conversation without a model."""

    spec: str
    """Digest of the run's `AgentSpec`."""
    slots: Annotated[int, Field(ge=1)]
    """Length of the conversation."""
    step: CompactionStep
    room: Room
    must_suffice: bool = False
    """Do nothing where that makes too little room: another way comes next, and should see all there is."""
    epoch: int = 0
    conversation: str = MAIN_CONVERSATION
    new: tuple[SlotMessage, ...] = ()
    """Short messages that workflow code made since the last call."""
    digest: str = ""
    """Of the messages, as in `CallModelRequest`."""


class CompactResult(Contract):
    """How the next epoch is made; of nothing where there was no room to be made."""

    compacted: tuple[CompactedPart, ...] = ()


class McpSession(Contract):
    """A run's session with a stateful MCP server, and the one worker that holds it."""

    server: str
    id: str = ""
    """Empty once it is lost, or where there is none yet."""
    task_queue: str = ""
    """Of that worker alone; empty where any worker can open another."""


class CallToolRequest(Contract):
    """Run one tool call of a message."""

    spec: str
    call_slot: int
    """The slot of the assistant's message that asks for the call."""
    index: int = 0
    """Which of the tool calls of that message."""
    slot: int
    """The slot that the result fills."""
    key: str
    """The idempotency key."""
    name: str
    """The tool, for the eyes of whoever reads the history."""
    arguments: str | None = None
    """The arguments where they are short; otherwise they are looked up in the message."""
    call_id: str = ""
    """The vendor's id of the call, where `arguments` is given."""
    epoch: int = 0
    conversation: str = MAIN_CONVERSATION
    tenant: str = ""
    """Who the run is for."""
    is_edited: bool = False
    """A person put `arguments` in place of the model's; the model is told."""
    session: McpSession | None = None
    """That of the run with the tool's server, where it has one."""
    call_digest: str = ""
    """Of the message in `call_slot` as it was recorded, where `arguments` are looked up there."""


class CallToolResult(Contract):
    """The message that answers a tool call. It says where it belongs: a local call records no request."""

    slot: int
    message: Message
    epoch: int = 0
    conversation: str = MAIN_CONVERSATION
    is_saved: bool = False
    """Another run's call gave the result."""
    session: McpSession | None = None
    """What the next calls of the tool's server need, where the server is stateful."""


class CopyConversationRequest(Contract):
    """Copy a page of a conversation from the run that this one continues."""

    from_run_id: str
    spec: str
    """Digest of the run's `AgentSpec`, which comes with the first page; empty once it is here."""
    start: int
    stop: int
    epoch: int = 0
    conversation: str = MAIN_CONVERSATION
    is_alone: bool = False
    """Slot `start` alone, which may lie behind a gap."""
    limits: Limits = Limits()
    """Over those of the spec."""
    from_workflow_id: str = ""
    """Set on a fork: the run that it was forked from, which goes its own way."""
    changes: SpecChanges | None = None
    """Set with the first page of a fork: what it pins anew."""
    digest: str = ""
    """Of all slots before `stop` as they were recorded; without it, what a worker remembers doesn't count."""
    may_split: bool = False
    """The spec may come alone, before the messages from slot 0 on."""


class CopyConversationResult(Contract):
    """A page of a conversation; with the first comes the spec."""

    start: int
    messages: tuple[Message, ...] = ()
    spec: AgentSpec | None = None


class RunToolRequest(Contract):
    """Run a tool that a workflow asks for, without a model."""

    tool: ToolSpec
    """The policy that the workflow was started with."""
    arguments: str
    """JSON text."""
    key: str
    """The idempotency key."""


class SharedToolRequest(Contract):
    """Run a tool call for every run that makes it."""

    tool: ToolSpec
    """The policy of the run that asked first."""
    version: str
    """Digest of the tool as the asking worker has it: a worker with another leaves the call to others."""
    arguments: str
    """JSON text."""
    key: str
    """The idempotency key: the call's id."""
    asker: str
    """The call that asked first."""
    context: dict[str, JsonValue] | None = None
    """The context values that all of these runs have, where the tool sees them."""


class SharedToolResult(Contract):
    """A result for every run that makes the call; its call id is empty."""

    message: Message
    asker: str


class SharedModelRequest(Contract):
    """Ask a model for every run that makes the call."""

    call: CallModelRequest
    """Of the run that asked first; the conversation is found there."""
    workflow_id: str
    run_id: str
    asker: str
    """The call that asked first."""


class SharedModelResult(Contract):
    """A reply for every run that makes the call."""

    result: CallModelResult
    asker: str


class VerifyRequest(Contract):
    """Judge an answer by the function that the agent names."""

    agent: str
    slot: int
    """The slot of the answer."""
    spec: str
    """Digest of the run's `AgentSpec`."""
    epoch: int = 0
    conversation: str = MAIN_CONVERSATION
    verifier: str = ""
    """The name that the run is pinned to."""
    digest: str = ""
    """Of the answer, as it was recorded."""


class Verdict(Contract):
    """What a verifier says of an answer; the output type of an agent that verifies."""

    accept: bool
    reason: str = ""
    """What is wrong with it, for whoever wrote it. Needed when it isn't accepted."""
    score: Annotated[float, Field(ge=0, le=1)] | None = None


class ReadOutputRequest(Contract):
    """Read the output of a closed run, where it is too large for the run's result."""

    workflow_id: str


class ReadOutputResult(Contract):
    """An output of at most 1 MiB."""

    output: JsonValue = None


class Progress(Contract):
    """Heartbeat details of an open call: they outlive the attempt, and `watch` shows them."""

    joined: str = ""
    """The run id of the shared call that this one waits for."""
    tries: int = 0
    """Attempts that reached the vendor, or the tool, and failed."""
    offset: int = 0
    """Where `text` starts in the reply."""
    text: str = ""
    """The end of the reply so far, at most 8 kB."""
    unbilled: int = 0
    """Attempts up to this one are known to have cost nothing."""
    attempt: int = 0
    """The attempt that this is of, on a worker that traces."""
    began: datetime | None = None
    """When it began, likewise."""
    traced: int = 0
    """Attempts up to this one have told their spans."""
