"""Puts the parts of a worker together: activities with what they need, workflows, sandbox. Wiring only."""

import os
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any
from uuid import uuid4

import httpx
from temporalio import activity
from temporalio.client import Client
from temporalio.common import MetricMeter
from temporalio.worker import Interceptor, WorkflowRunner
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions

from perdure._instruments import TelemetryInterceptor, told
from perdure._search_attributes import existing_search_attributes
from perdure._secrets import read_secret
from perdure.activities._blobs import BlobStore
from perdure.activities._cache import MessageCache, SpecCache
from perdure.activities._choosing import Chooser
from perdure.activities._lookup import Lookup
from perdure.activities._scores import ScoreboardReader
from perdure.activities._sharing import Sharing
from perdure.activities.approving import ApprovalActivities
from perdure.activities.compacting import CompactActivities
from perdure.activities.describing import DescribingActivities
from perdure.activities.loading import LoadingActivities, LoadingPolicy
from perdure.activities.models import ModelActivities
from perdure.activities.planning import PlanActivities
from perdure.activities.resuming import ResumeActivities
from perdure.activities.selecting import SelectionActivities
from perdure.activities.tools import ToolActivities, ToolHost
from perdure.activities.verifying import VerifyActivities
from perdure.agents.approvals import in_order
from perdure.app import App
from perdure.contracts.usage import Price
from perdure.encryption import encryption_codec
from perdure.errors import SettingsError, suggest
from perdure.mcp.lock import Accepted, read_lock
from perdure.mcp.pool import Pool, servers_of
from perdure.providers._redact import redact
from perdure.providers.prices import find_model
from perdure.providers.registry import ProviderConfig, Providers
from perdure.settings import Settings
from perdure.telemetry.setup import Telemetry, make_telemetry
from perdure.workflows.agent import AgentWorkflow
from perdure.workflows.interceptor import PerdureInterceptor
from perdure.workflows.map_workflows import MapNode, MapWorkflow
from perdure.workflows.memory import Memory
from perdure.workflows.plan_workflow import PlanWorkflow
from perdure.workflows.scoreboard import Scoreboard

PASSTHROUGH = ("perdure.contracts", "perdure.agents", "perdure.errors", "pydantic", "pydantic_core")
"""Data packages that the sandbox shares. Never `perdure.workflows`: that would switch its checks off."""

_ATTRIBUTES_TTL_SECONDS = 60.0
_HTTP_TIMEOUT_SECONDS = 60.0


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What a Temporal worker is given."""

    activities: Sequence[Callable[..., Any]]
    shared_activities: Sequence[Callable[..., Any]]
    """Those of calls that several runs share; they run on a task queue of their own."""
    describing: DescribingActivities
    """Answers on a Task Queue of the worker's own."""
    mark: str
    """Tells this worker from others: two containers that share a host's name have clients of one identity."""
    workflows: Sequence[type]
    interceptors: Sequence[Interceptor]
    workflow_runner: WorkflowRunner
    models: ModelActivities
    tools: ToolActivities
    providers: Providers
    host: ToolHost
    mcp: Pool
    lookup: Lookup
    telemetry: Telemetry
    app: App

    @asynccontextmanager
    async def opened(self) -> AsyncGenerator[None]:
        """Open the app's resources, and close every connection at the end."""
        if self.host.http.is_closed:  # by a worker that was before
            self.host.http = _make_http()
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self.providers.aclose)
            stack.push_async_callback(self.host.http.aclose)
            stack.push_async_callback(self.models.aclose)
            stack.push_async_callback(self.mcp.aclose)
            await self.mcp.prepare()
            if self.app.lifespan is not None:
                self.host.resources = await stack.enter_async_context(self.app.lifespan(self.app)) or {}
            yield

    @asynccontextmanager
    async def telling(self, client: Client) -> AsyncGenerator[None]:
        """Send traces and metrics, and what is left of them at the end."""
        async with told(self.telemetry, client, providers=self.providers, lookup=self.lookup):
            yield


def sandboxed_runner() -> SandboxedWorkflowRunner:
    """Return the sandbox that users' workflows run in."""
    restrictions = SandboxRestrictions.default.with_passthrough_modules(*PASSTHROUGH)
    return SandboxedWorkflowRunner(restrictions=restrictions)


def all_workflows(app: App) -> list[type]:
    """Return what a worker registers: perdure's own workflow classes and the app's."""
    return [AgentWorkflow, MapNode, MapWorkflow, Memory, PlanWorkflow, Scoreboard, *app.workflows.values()]


def make_providers(app: App, settings: Settings) -> Providers:
    """Return the providers of an app: built in, configured, and the app's own."""
    ways = {name: table.way() for name, table in settings.providers.items()}
    configs = [ProviderConfig(name=name, **way) for name, way in ways.items() if way]  # pyright: ignore[reportArgumentType]
    providers = Providers(configs, extra=app.providers)
    for name in settings.providers:
        if name not in providers.names():
            hint = suggest(name, providers.names())
            raise SettingsError(
                f"[tool.perdure.providers.{name}]: there is no provider {name!r}.{hint}"
                " Give protocol and base_url to set it up."
            )
    return providers


def make_pool(app: App, settings: Settings, *, redact: Callable[[str], str]) -> Pool:
    """Return the MCP servers of a project, none of which is opened yet.

    Raises:
        SettingsError: An agent names a server that there isn't, or `mcp.lock` can't be read. Not retryable.
    """
    used = {name: agent.name for agent in app.agents.values() for name in agent.mcp_names}
    servers = servers_of(app.registry.mcp_servers, settings.mcp, used)
    folder = settings.project_dir
    accepted: Accepted = read_lock(folder) if servers else {}
    return Pool(servers=servers, folder=folder, accepted=accepted, redact=redact, used=tuple(used))


def models_known(settings: Settings) -> Callable[[str], tuple[Price | None, int | None]]:
    """Return what finds the price and the context window of a model: the user's own prices come first."""
    own = {name: Price(**table.model_dump()) for name, table in settings.prices.items()}

    def find(name: str) -> tuple[Price | None, int | None]:
        price, window = find_model(name)
        return own.get(name, price), window

    return find


def make_parts(app: App, settings: Settings, *, meter: MetricMeter = MetricMeter.noop) -> Parts:
    """Return the parts of a worker; nothing is opened yet.

    Args:
        app: What it serves.
        settings: Sizes and times.
        meter: Of the client's runtime: what is counted goes where Temporal's own metrics go.

    Raises:
        SettingsError: Providers or telemetry can't be set up so. Not retryable.
    """
    providers = make_providers(app, settings)
    blobs = BlobStore(settings.project_dir / settings.state_dir / "blobs", encryption_codec(settings))
    host = ToolHost(
        http=_make_http(),
        blobs=blobs,
        redact=_redactor(providers),
        has_storage=settings.storage is not None,
    )
    telemetry = make_telemetry(
        os.environ,
        has_content=settings.telemetry.content,
        redact=host.redact,
        metrics_address=settings.metrics_address,
        spool=settings.project_dir / settings.state_dir / "spans",
    )
    telemetry.count_with(meter)
    lookup = Lookup(app.registry, cache=MessageCache(settings.message_cache_bytes), specs=SpecCache())
    attributes = _remembered_attributes()
    approvals = in_order((*settings.approvals, *app.approvals))
    policy = LoadingPolicy(
        heartbeat_timeout=settings.heartbeat_timeout,
        search_attributes=attributes,
        find_model=models_known(settings),
        redact=host.redact,
        task_queues=settings.provider_queues(),
        approvals=approvals,
        model_queue=settings.model_task_queue or "",
        tool_queue=settings.tool_task_queue or "",
    )
    mcp = make_pool(app, settings, redact=host.redact)
    sharing = Sharing(settings.cache_scope)
    models = ModelActivities(
        registry=app.registry,
        providers=providers,
        lookup=lookup,
        blobs=host.blobs,
        redact=host.redact,
        sharing=sharing,
    )
    tools = ToolActivities(
        registry=app.registry,
        lookup=lookup,
        host=host,
        sharing=sharing,
        approvals=approvals,
        task_queue=policy.tool_queue,
        mcp=mcp,
    )
    approving = ApprovalActivities(registry=app.registry, redact=host.redact, search_attributes=attributes)
    verifying = VerifyActivities(registry=app.registry, lookup=lookup, redact=host.redact)
    loading = LoadingActivities(registry=app.registry, providers=providers, lookup=lookup, policy=policy, mcp=mcp)
    resuming = ResumeActivities()
    compacting = CompactActivities(registry=app.registry, lookup=lookup, redact=host.redact)
    find_price = models_known(settings)
    chooser = Chooser(providers=providers, find_price=lambda model: find_price(model)[0], redact=host.redact)
    selecting = SelectionActivities(
        registry=app.registry, chooser=chooser, reader=ScoreboardReader(), scoreboard=settings.scoreboard
    )
    planning = PlanActivities(registry=app.registry)
    return Parts(
        activities=[
            models.call_model,
            tools.call_tool,
            tools.load_tool,
            tools.run_tool,
            loading.load_agent,
            loading.first_attributes,
            loading.copy_conversation,
            compacting.compact,
            loading.read_output,
            verifying.verify,
            loading.read_page,
            planning.check_plan,
            planning.describe_agents,
            resuming.find_earlier,
            resuming.resume_run,
            selecting.select_agent,
            selecting.quote_selection,
            selecting.record_outcomes,
            approving.check_approval,
            approving.open_wait,
        ],
        shared_activities=[tools.run_shared_tool, models.ask_shared_model, models.keep_shared_reply],
        describing=DescribingActivities(providers.gates),
        mark=uuid4().hex[:6],
        workflows=all_workflows(app),
        interceptors=[
            PerdureInterceptor(ui_url=settings.ui_url or ""),
            *([TelemetryInterceptor(telemetry)] if telemetry.is_on else []),
        ],
        workflow_runner=sandboxed_runner(),
        models=models,
        tools=tools,
        providers=providers,
        host=host,
        mcp=mcp,
        lookup=lookup,
        telemetry=telemetry,
        app=app,
    )


def _make_http() -> httpx.AsyncClient:
    """Return the client of all tools; it keeps no cookies, since all runs and tenants of the worker share it."""
    cookies = CookieJar(DefaultCookiePolicy(allowed_domains=[]))
    return httpx.AsyncClient(timeout=_HTTP_TIMEOUT_SECONDS, cookies=cookies)


def make_redact(app: App | None, settings: Settings) -> Callable[[str], str]:
    """Return what takes the keys of the providers out of a text."""
    return _redactor(make_providers(app or App(), settings))


def _redactor(providers: Providers) -> Callable[[str], str]:
    def redact_keys(text: str) -> str:
        variables = [status.key_env for status in providers.status() if status.key_env]
        return redact(text, [read_secret(name) for name in variables])

    return redact_keys


def _remembered_attributes() -> Callable[[], Any]:
    """Ask the server which search attributes it has, at most once a minute."""
    known: frozenset[str] = frozenset()
    asked_at = float("-inf")

    async def ask() -> frozenset[str]:
        nonlocal known, asked_at
        if time.monotonic() - asked_at > _ATTRIBUTES_TTL_SECONDS:
            known = frozenset(await existing_search_attributes(activity.client()))
            asked_at = time.monotonic()
        return known

    return ask
