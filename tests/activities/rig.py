"""Perdure's activities with everything they need but a server, and the run that calls them."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import httpx
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.service import RPCError, RPCStatusCode
from temporalio.testing import ActivityEnvironment

from perdure import Agent
from perdure.activities._blobs import BlobStore
from perdure.activities._cache import ConversationKey, MessageCache, SpecCache
from perdure.activities._lookup import Lookup
from perdure.activities._sharing import Sharing
from perdure.activities.loading import LoadingActivities, LoadingPolicy
from perdure.activities.models import ModelActivities
from perdure.activities.tools import ToolActivities, ToolHost
from perdure.agents.registry import Registry
from perdure.contracts.calls import CallModelRequest, LoadAgentRequest, Progress, SlotMessage
from perdure.contracts.messages import Message, user_message
from perdure.contracts.names import MESSAGES_QUERY, SPEC_QUERY
from perdure.contracts.run import MessagesPage, MessagesQuery
from perdure.contracts.spec import AgentSpec
from perdure.contracts.usage import Price
from perdure.mcp.pool import Pool
from perdure.providers.base import Provider
from perdure.providers.registry import ProviderConfig, Providers

SECRET = "hunter2-hunter2"
KEY = ConversationKey("wf", "run", "main", 0)
HI = SlotMessage(slot=0, message=user_message("hi"))


def redact(text: str) -> str:
    return text.replace(SECRET, "***")


def no_price(model: str) -> tuple[Price | None, int | None]:
    return None, None


@dataclass
class Rig:
    """A worker's activities. `beats` collects the heartbeats of all of them."""

    folder: Path
    agents: Sequence[Agent] = ()
    providers: Sequence[Provider] = ()
    configs: Sequence[ProviderConfig] = ()
    find_model: Any = no_price
    attributes: frozenset[str] = frozenset()
    resources: dict[str, Any] = field(default_factory=dict[str, Any])
    cache_bytes: int = 10_000_000
    beats: list[Progress] = field(default_factory=list[Progress])
    pool: Pool = field(default_factory=Pool)

    def __post_init__(self) -> None:
        registry = Registry(self.agents)
        providers = Providers(self.configs, extra=self.providers)
        self.blobs = BlobStore(self.folder)
        self.lookup = Lookup(registry, cache=MessageCache(self.cache_bytes), specs=SpecCache())
        self.host = ToolHost(http=httpx.AsyncClient(), blobs=self.blobs, redact=redact, resources=self.resources)
        policy = LoadingPolicy(
            heartbeat_timeout=timedelta(seconds=3),
            search_attributes=self._attributes,
            find_model=self.find_model,
            redact=redact,
        )
        models = ModelActivities(
            registry=registry,
            providers=providers,
            lookup=self.lookup,
            blobs=self.blobs,
            redact=redact,
            sharing=Sharing(),
        )
        self.aclose = providers.aclose
        self.call_model = models.call_model
        self.call_tool = ToolActivities(
            registry=registry, lookup=self.lookup, host=self.host, sharing=Sharing(), mcp=self.pool
        ).call_tool
        loading = LoadingActivities(
            registry=registry, providers=providers, lookup=self.lookup, policy=policy, mcp=self.pool
        )
        self.load_agent = loading.load_agent
        self.copy_conversation = loading.copy_conversation
        self.read_page = loading.read_page

    async def _attributes(self) -> frozenset[str]:
        return self.attributes

    def environment(
        self,
        *,
        tries: int = 0,
        unbilled: int = 0,
        joined: str = "",
        heartbeat: float = 30,
        client: object = None,
        **info: Any,
    ) -> ActivityEnvironment:
        """Return an attempt; `tries`, `unbilled` and `joined` are what the last one left in its heartbeat."""
        environment = ActivityEnvironment(client=cast("Client", client))
        left = Progress(tries=tries, unbilled=unbilled, joined=joined)
        details = [left.model_dump(mode="json")] if left != Progress() else []
        info.setdefault("heartbeat_timeout", timedelta(seconds=heartbeat))
        environment.info = replace(
            environment.info, workflow_id="wf", workflow_run_id="run", heartbeat_details=details, **info
        )
        environment.on_heartbeat = self.beats.append
        return environment

    async def pin(self, name: str = "worker", **options: Any) -> AgentSpec:
        return await self.environment().run(self.load_agent, LoadAgentRequest(agent=name, **options))

    async def ask(
        self, spec: AgentSpec, *, slots: int = 1, new: Sequence[SlotMessage] = (HI,), **options: Any
    ) -> Any:
        """Call the model; options that a request has go there, the others to the environment."""
        fields = {name: options.pop(name) for name in list(options) if name in CallModelRequest.model_fields}
        request = CallModelRequest(spec=spec.digest, slots=slots, new=tuple(new), **fields)
        return await self.environment(**options).run(self.call_model, request)


class FakeTemporal:
    """A Temporal client that knows one run: it answers queries if it has a worker, and tells the history."""

    data_converter = pydantic_data_converter
    namespace = "default"

    def __init__(
        self,
        messages: Sequence[Message] = (),
        spec: AgentSpec | None = None,
        *,
        events: Sequence[HistoryEvent] | None = None,
        page_size: int = 2,
    ) -> None:
        self.queries: list[Any] = []
        self.histories = 0
        self._messages = list(messages)
        self._spec = spec
        self._events = events
        self._page_size = page_size
        self.has_worker = events is None

    def get_workflow_handle(self, workflow_id: str, *, run_id: str | None = None) -> "FakeTemporal":
        return self

    async def query(self, name: str, argument: Any, *, result_type: type, rpc_timeout: timedelta) -> Any:
        self.queries.append((name, argument))
        await asyncio.sleep(0)
        if not self.has_worker:
            raise RPCError("no worker", RPCStatusCode.DEADLINE_EXCEEDED, b"")
        if name == SPEC_QUERY:
            return self._spec if self._spec and self._spec.digest == argument else None
        assert (name, type(argument), result_type) == (MESSAGES_QUERY, MessagesQuery, MessagesPage)
        found = self._messages[argument.start : argument.stop][: self._page_size]
        return MessagesPage(start=argument.start, total=len(self._messages), messages=tuple(found))

    async def fetch_history_events(self) -> AsyncIterator[HistoryEvent]:
        self.histories += 1
        if not self._events:
            raise RPCError("no such run", RPCStatusCode.NOT_FOUND, b"")
        for event in self._events:
            yield event
