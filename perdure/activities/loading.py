"""Activities at the start of a run: pin the agent, or copy the conversation. Activity side."""

import inspect
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from temporalio import activity

from perdure.activities._cache import ConversationKey, Slot
from perdure.activities._lookup import Lookup
from perdure.activities._progress import Heart
from perdure.activities._pulse import Pulse
from perdure.agents.agent import Agent
from perdure.agents.approvals import check_run_rules, pin
from perdure.agents.compaction import Compaction
from perdure.agents.registry import Registry
from perdure.contracts.attributes import first_attributes
from perdure.contracts.calls import (
    CopyConversationRequest,
    CopyConversationResult,
    FirstAttributes,
    FirstAttributesRequest,
    LoadAgentRequest,
    ReadOutputRequest,
    ReadOutputResult,
)
from perdure.contracts.limits import DEFAULT_LIMITS, Limits
from perdure.contracts.map import MapOutcome, ReadPageRequest, ReadPageResult
from perdure.contracts.names import (
    COPY_CONVERSATION,
    FIRST_ATTRIBUTES,
    LOAD_AGENT,
    PLAN_VERIFIER,
    READ_OUTPUT,
    READ_PAGE,
)
from perdure.contracts.spec import AgentSpec, CompactionSpec, ModelSpec, ToolSpec, with_queue
from perdure.contracts.usage import Price
from perdure.contracts.waits import ApprovalRule
from perdure.errors import PayloadTooLargeError, UnknownAgentError, UserError
from perdure.history import read_output
from perdure.map_history import read_outcomes
from perdure.mcp.pool import Pool
from perdure.providers.registry import Providers

_PAGE_BYTES = 1_000_000
_MAX_SPEC_BYTES = 1_000_000
_MAX_RESULT_BYTES = 1_900_000
"""Temporal's limit is 2 MiB."""
_HANDOFF_PARAMETERS: dict[str, Any] = {
    "type": "object",
    "properties": {"reason": {"type": "string", "description": "Why, for whoever takes over."}},
    "additionalProperties": False,
}


@dataclass(frozen=True, kw_only=True)
class LoadingPolicy:
    """What a worker adds to each spec that it loads."""

    heartbeat_timeout: timedelta
    search_attributes: Callable[[], Awaitable[frozenset[str]]]
    """Says which of ours the server has."""
    find_model: Callable[[str], tuple[Price | None, int | None]]
    """Returns the price and the context window, in tokens, of a model; None for what is not known."""
    redact: Callable[[str], str]
    """Takes the secrets out of a text."""
    task_queues: Mapping[str, str] = field(default_factory=dict[str, str])
    """The Task Queue of each provider that has one of its own."""
    approvals: Sequence[ApprovalRule] = ()
    """The rules of the app and its settings, in order."""
    model_queue: str = ""
    """The Task Queue of the model calls of all others; empty for the workflow's."""
    tool_queue: str = ""
    """The Task Queue of tool calls, likewise."""


class LoadingActivities:
    """Loads agents, and conversations of runs that continue as new."""

    def __init__(
        self,
        *,
        registry: Registry,
        providers: Providers,
        lookup: Lookup,
        policy: LoadingPolicy,
        mcp: Pool | None = None,
    ) -> None:
        """Work with these."""
        self._mcp = mcp or Pool()
        self._registry = registry
        self._providers = providers
        self._lookup = lookup
        self._policy = policy
        self._pulse = Pulse(policy.heartbeat_timeout, open_calls=lambda: Heart.open_calls, clock=time.monotonic)

    @activity.defn(name=LOAD_AGENT)
    async def load_agent(self, request: LoadAgentRequest) -> AgentSpec:
        """Return the spec that the run is pinned to.

        Raises:
            UnknownAgentError, UnknownModelError: Not retryable.
            ToolError: An MCP server that is required can't be used. Retryable.
            UserError: The instructions function failed. Not retryable.
            SettingsError: A rule of the run makes no sense. Not retryable.
        """
        check_run_rules(request.approvals)
        agent = self._registry.agent(request.agent)
        verify, is_verified_by_agent = self._verifier(agent, request.verify)
        instructions = await self._instructions(agent, request.context or {})
        mcp = await self._mcp.pinned_tools(agent.mcp_names, [tool.name for tool in agent.tool_specs])
        spec = AgentSpec(
            name=agent.name,
            description=agent.description,
            instructions="\n\n".join(filter(None, (instructions, *mcp.notices))),
            models=tuple(self._model(name) for name in agent.models),
            tools=(
                *(
                    with_queue(pin(tool, (*request.approvals, *self._policy.approvals)), self._policy.tool_queue)
                    for tool in (*agent.tool_specs, *mcp.specs)
                ),
                *(self._handoff(each) for each in agent.handoffs),
            ),
            output=agent.output_spec,
            limits=request.limits.over(agent.limits.over(DEFAULT_LIMITS)),
            settings=agent.settings,
            tags=tuple(agent.tags),
            capabilities=tuple(agent.capabilities),
            handoffs=tuple(each if isinstance(each, str) else each.name for each in agent.handoffs),
            verify=verify,
            is_verified_by_agent=is_verified_by_agent,
            on_limit=agent.on_limit,
            context=request.context,
            heartbeat_timeout=self._pulse.next_timeout(),
            search_attributes=await self._search_attributes(),
            compaction=self._compaction(agent.compaction),
            is_metered=True,
            shares_limits=True,
            run_approvals=request.approvals,
        )
        _check(spec)
        self._lookup.specs.put(spec)
        return spec

    @activity.defn(name=FIRST_ATTRIBUTES)
    async def first_attributes(self, request: FirstAttributesRequest) -> FirstAttributes:
        """Return the search attributes that runs of an agent would write first; none where it can't be run."""
        try:
            agent = self._registry.agent(request.agent)
        except UnknownAgentError:
            return FirstAttributes()
        known = await self._policy.search_attributes()
        values = first_attributes(agent.name, agent.models[0], request.tenant)
        return FirstAttributes(values={name: value for name, value in values.items() if name in known} or None)

    async def _search_attributes(self) -> tuple[str, ...]:
        return tuple(sorted(await self._policy.search_attributes()))

    async def _instructions(self, agent: Agent, context: Mapping[str, Any]) -> str:
        if isinstance(agent.instructions, str):
            return agent.instructions
        try:
            text = agent.instructions(context)
            text = await text if inspect.isawaitable(text) else text
        except Exception as error:
            reason = self._policy.redact(f"{type(error).__name__}: {error}")
            raise UserError(f"The instructions function of agent {agent.name!r} failed: {reason}") from None
        if not isinstance(text, str):  # pyright: ignore[reportUnnecessaryIsInstance] - only a hint
            kind = type(text).__name__
            raise UserError(f"The instructions function of agent {agent.name!r} returned a {kind}, not a str.")
        return text

    def _verifier(self, agent: Agent, wanted: str) -> tuple[str | None, bool]:
        """Return who judges the answers, and whether that is an agent."""
        if not wanted:
            return _name_of(agent.verify), isinstance(agent.verify, Agent)
        if wanted == PLAN_VERIFIER:
            return wanted, False
        return wanted, isinstance(self._registry.verifier(wanted), Agent)

    def _handoff(self, target: Agent | str) -> ToolSpec:
        other = self._registry.agent(target if isinstance(target, str) else target.name)
        return ToolSpec(
            name=f"handoff_to_{other.name}"[:64],
            description=f"Hand the conversation over to {other.name}. {other.description}".strip(),
            parameters=_HANDOFF_PARAMETERS,
            handoff=other.name,
        )

    def _compaction(self, compaction: Compaction) -> CompactionSpec | None:
        return compaction.spec(None if compaction.model is None else self._model(compaction.model))

    def _model(self, name: str) -> ModelSpec:
        self._providers.resolve(name)
        price, window = self._policy.find_model(name)
        queue = self._policy.task_queues.get(name.partition(":")[0], self._policy.model_queue)
        return ModelSpec(name=name, price=price, context_window_tokens=window, task_queue=queue)

    @activity.defn(name=COPY_CONVERSATION)
    async def copy_conversation(self, request: CopyConversationRequest) -> CopyConversationResult:
        """Return a page of the conversation of the run that this one continues.

        The first page carries the spec, and no message where both are too large for one result. What is read is
        put into the cache of the new run.

        Raises:
            ConversationUnavailableError: Retryable.
            UnknownModelError, UserError, PayloadTooLargeError: What a fork pins anew can't be used. Not retryable.
        """
        info = activity.info()
        workflow_id = info.workflow_id or ""
        source = request.from_workflow_id or workflow_id
        old = ConversationKey(source, request.from_run_id, request.conversation, request.epoch)
        new = ConversationKey(workflow_id, info.workflow_run_id or "", request.conversation, request.epoch)
        if request.is_alone:
            slot = await self._lookup.recorded_slot(old, request.start)
            self._lookup.cache.put(new, {request.start: slot})
            return CopyConversationResult(start=request.start, messages=(slot.message,))
        if request.start == 0 and not request.digest:
            self._lookup.cache.forget(old)
        page = _page((await self._lookup.slots(old, request.stop, digest=request.digest))[request.start :])
        messages = tuple(slot.message for slot in page)
        result = CopyConversationResult(start=request.start, messages=messages)
        if request.start == 0 and request.spec:
            spec = await self._repin(await self._lookup.spec(request.spec, source, request.from_run_id), request)
            result = result.model_copy(update={"spec": spec})
            if request.may_split and len(result.to_bytes()) > _MAX_RESULT_BYTES:
                return CopyConversationResult(start=0, spec=spec)
        self._lookup.cache.put(new, dict(enumerate(page, request.start)))
        if request.start + len(page) >= request.stop and not request.from_workflow_id:
            self._lookup.cache.forget(old)
        return result

    async def _repin(self, spec: AgentSpec, request: CopyConversationRequest) -> AgentSpec:
        """Return the spec that the run goes on with: the one of before, but for what is asked to be otherwise."""
        changes: dict[str, Any] = {}
        if request.limits != Limits():
            changes["limits"] = request.limits.over(spec.limits)
        if request.from_workflow_id:
            changes |= {
                "is_metered": True,
                "shares_limits": True,
                "search_attributes": await self._search_attributes(),
            }
        if request.changes is not None and request.changes.models:
            changes["models"] = tuple(self._model(name) for name in request.changes.models)
        if request.changes is not None and request.changes.instructions is not None:
            changes["instructions"] = request.changes.instructions
        if not changes:
            return spec
        repinned = spec.model_copy(update=changes)
        if request.from_workflow_id:
            _check(repinned)
        self._lookup.specs.put(repinned)
        return repinned

    @activity.defn(name=READ_OUTPUT)
    async def read_output(self, request: ReadOutputRequest) -> ReadOutputResult:
        """Return the output of a closed run that was too large for its result.

        Raises:
            RPCError: Temporal's. Retryable.
        """
        return ReadOutputResult(output=await read_output(activity.client(), request.workflow_id))

    @activity.defn(name=READ_PAGE)
    async def read_page(self, request: ReadPageRequest) -> ReadPageResult:
        """Return outcomes of a map from the closed run of one of its nodes.

        Raises:
            RPCError: Temporal's. Retryable.
        """
        found = await read_outcomes(activity.client(), request.workflow_id, request.run_id)
        page: list[MapOutcome] = []
        size = 0
        for outcome in found:
            if outcome.index < request.start:
                continue
            size += len(outcome.to_bytes())
            if page and size > _PAGE_BYTES:
                break
            page.append(outcome)
        return ReadPageResult(outcomes=tuple(page))


def _page(slots: Sequence[Slot]) -> list[Slot]:
    """Return as many of them as fit into 1 MB, but at least one where there is one."""
    page: list[Slot] = []
    size = 0
    for slot in slots:
        size += len(slot.message.to_bytes())
        if page and size > _PAGE_BYTES:
            break
        page.append(slot)
    return page


def _check(spec: AgentSpec) -> None:
    """Refuse a spec that no run can go by."""
    _check_prices(spec)
    size = len(spec.to_bytes())
    if size > _MAX_SPEC_BYTES:
        raise PayloadTooLargeError(
            f"Agent {spec.name!r} takes {size} bytes as a spec, more than {_MAX_SPEC_BYTES}: shorten its "
            "instructions, its tools' descriptions or the context."
        )


def _check_prices(spec: AgentSpec) -> None:
    """Refuse a limit in dollars that nothing could be counted against."""
    unknown = spec.unpriced_models
    if spec.limits.max_cost_usd is not None and unknown and not spec.limits.allow_unknown_prices:
        raise UserError(
            f"max_cost_usd is set, but the price of {', '.join(unknown)} is not known: set it in "
            "[tool.perdure.prices], limit max_total_tokens instead, or set the limit allow_unknown_prices=true, "
            "with which such a model's calls are not counted."
        )


def _name_of(verify: Any) -> str | None:
    if verify is None or isinstance(verify, str):
        return verify
    name: str | None = getattr(verify, "name", None) or getattr(verify, "__name__", None)
    return name
