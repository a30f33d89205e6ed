"""`AgentSpec`: the serialisable face of an agent, pinned into a run at its start. Both sides."""

from datetime import timedelta
from functools import cached_property
from hashlib import sha256
from typing import Any, Literal, Self

from pydantic import AliasChoices, Field, JsonValue

from perdure.contracts._base import Contract
from perdure.contracts.compaction import CompactionStep
from perdure.contracts.limits import CacheScope, Limits, ModelSettings, OnLimit
from perdure.contracts.usage import Price
from perdure.contracts.waits import ApprovalRule, QuestionTerms

JsonSchema = dict[str, Any]

FINAL_OUTPUT_TOOL = "final_output"
"""The tool that a model calls to give a structured output, where its vendor has no mode for that."""


McpKind = Literal["tool", "list_resources", "read_resource", "list_prompts", "get_prompt"]


class McpSource(Contract):
    """What a tool is of an MCP server, and what the server said of it when the run was pinned."""

    server: str
    tool: str = ""
    """What the server calls it; empty for what perdure makes of resources and prompts."""
    kind: McpKind = "tool"
    digest: str = ""
    """SHA-256 of its description, schema and annotations, as hexadecimal digits; another one is another tool."""
    is_stateful: bool = False
    """Calls of a run need the session of those before, which one worker holds."""
    is_accepted: bool = False
    """A person has accepted this digest, or whatever the server says; else each call needs approval."""


class ToolSpec(Contract):
    """A tool as a run knows it: what the model is told, and how a call is carried out."""

    name: str
    description: str = ""
    parameters: JsonSchema
    """JSON schema of the arguments, an object."""
    idempotent: bool = False
    local: bool = False
    timeout: timedelta = Field(
        default=timedelta(minutes=5),
        serialization_alias="timeout_seconds",
        validation_alias=AliasChoices("timeout_seconds", "timeout"),
    )
    """Time for one attempt."""
    max_attempts: int = 1
    max_result_bytes: int = 256 * 1024
    cache: CacheScope | None = None
    cache_ttl: timedelta | None = Field(
        default=None,
        serialization_alias="cache_ttl_seconds",
        validation_alias=AliasChoices("cache_ttl_seconds", "cache_ttl"),
    )
    """How long a shared result answers other runs."""
    version: str = ""
    """Set by the author: results of another version are not reused."""
    needs_approval: bool = False
    agent: str = ""
    """Set on a subagent: a call of the tool is a child run of that agent."""
    handoff: str = ""
    """Set where a call of the tool passes the conversation on to that agent."""
    read_only: bool = False
    """It changes nothing, says its author."""
    approval: ApprovalRule | None = None
    """Set when it is pinned: what a call needs; None where nothing, or in runs of before there were rules."""
    approval_policy: str = ""
    """The tool's function that says for each call whether it needs approval."""
    question: QuestionTerms | None = None
    """Set where a call of the tool asks a person."""
    task_queue: str = ""
    """Where its calls run, if tool calls have a Task Queue of their own."""
    mcp: McpSource | None = None
    """Set where an MCP server answers its calls."""


def with_queue(tool: ToolSpec, task_queue: str) -> ToolSpec:
    """Return the tool with its calls on `task_queue`, if they are activities that a queue hands out."""
    if not task_queue or tool.local or tool.agent or tool.handoff:
        return tool
    return tool.model_copy(update={"task_queue": task_queue})


class ModelSpec(Contract):
    """A model as a run knows it."""

    name: str
    """`provider:model`."""
    price: Price | None = None
    """None when unknown, which is not free."""
    context_window_tokens: int | None = None
    task_queue: str = ""
    """Where its calls run, if its provider has a Task Queue of its own."""


class SpecChanges(Contract):
    """What a fork pins anew, over the spec of the run that it was forked from."""

    models: tuple[str, ...] = ()
    """`provider:model`, the first and its fallbacks; the same as before when empty."""
    instructions: str | None = None
    """The same as before when None."""


class OutputSpec(Contract):
    """The structured output that an agent must give."""

    name: str
    parameters: JsonSchema
    """JSON schema of the output."""
    is_wrapped: bool = False
    """The type is no object: its value is the field `value` of the object that the model writes."""


class CompactionSpec(Contract):
    """How a run makes room when its conversation nears the model's context window."""

    steps: tuple[CompactionStep, ...]
    """Tried in this order, until there is room."""
    at: float = 0.8
    """Part of the room for a prompt at which it is made."""
    to: float = 0.4
    """Part of it that the conversation may take afterwards."""
    keep_turns: int = 4
    """The last turns, which stay as they are where they fit."""
    model: ModelSpec | None = None
    """Who summarises; the agent's own models when None."""
    instructions: str = ""
    """For whoever summarises; perdure's own when empty."""
    context_window_tokens: int | None = None
    """Of the agent's models, over what perdure knows of them."""


class AgentSpec(Contract):
    """What a run was started with; deploying changed code never changes it."""

    name: str
    description: str = ""
    instructions: str = ""
    models: tuple[ModelSpec, ...]
    """The first is asked; the rest are fallbacks."""
    tools: tuple[ToolSpec, ...] = ()
    output: OutputSpec | None = None
    """None for plain text."""
    limits: Limits = Limits()
    """Resolved: the run's, else the agent's, else the default."""
    settings: ModelSettings = ModelSettings()
    tags: tuple[str, ...] = ()
    capabilities: tuple[str, ...] = ()
    handoffs: tuple[str, ...] = ()
    verify: str | None = None
    """The agent that judges answers, or the name of the function that does."""
    is_verified_by_agent: bool = False
    on_limit: OnLimit = "finish"
    context: dict[str, JsonValue] | None = None
    """The run's context values, for its tools."""
    heartbeat_timeout: timedelta = Field(
        default=timedelta(seconds=3),
        serialization_alias="heartbeat_timeout_seconds",
        validation_alias=AliasChoices("heartbeat_timeout_seconds", "heartbeat_timeout"),
    )
    """After how long without a sign of life a worker counts as dead."""
    search_attributes: tuple[str, ...] = ()
    """Those of ours that the server had when the run started; others are never written."""
    compaction: CompactionSpec | None = None
    """None for runs that make no room, such as those of before it was there."""
    is_metered: bool = False
    """Whether limits of money and tokens hold by reservations. Runs of before there were any lack it."""
    shares_limits: bool = False
    """Whether counts of calls are reserved as money is, and time bounds calls and waits, also for all below the
    run. Runs of before lack it."""
    run_approvals: tuple[ApprovalRule, ...] = ()
    """Rules that the run was started with; they hold for its subagents too."""

    @cached_property
    def digest(self) -> str:
        """The first 16 hexadecimal digits of the SHA-256 of the spec's JSON."""
        return sha256(self.to_bytes()).hexdigest()[:16]

    @property
    def unpriced_models(self) -> list[str]:
        """Models that the run may ask, the summariser too, whose price is not known."""
        summariser = None if self.compaction is None else self.compaction.model
        asked = self.models if summariser is None else (*self.models, summariser)
        return [model.name for model in asked if model.price is None]

    @cached_property
    def _by_name(self) -> dict[str, ToolSpec]:
        return {tool.name: tool for tool in reversed(self.tools)}

    def __copy__(self) -> Self:
        copied = super().__copy__()
        for computed in ("digest", "_by_name"):  # `model_copy` changes what it was computed from
            vars(copied).pop(computed, None)
        return copied

    def tool(self, name: str) -> ToolSpec | None:
        """Return the tool of that name, or None; asked several times for each call, of agents with many tools."""
        return self._by_name.get(name)


OutputMode = Literal["text", "native", "tool"]
