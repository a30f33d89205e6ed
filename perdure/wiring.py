"""Puts the parts of a worker together: activities with what they need, workflows, sandbox. Wiring only."""

import os
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import uuid4

import httpx
from temporalio import activity
from temporalio.client import Client
from temporalio.worker import Interceptor, PollerBehaviorSimpleMaximum, Worker, WorkflowRunner
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions

from perdure._search_attributes import existing_search_attributes
from perdure._task_queues import worker_queue
from perdure.activities._blobs import BlobStore
from perdure.activities._cache import MessageCache, SpecCache
from perdure.activities._choosing import Chooser
from perdure.activities._lookup import Lookup
from perdure.activities._scores import ScoreboardReader
from perdure.activities._sharing import Sharing
from perdure.activities.compacting import CompactActivities
from perdure.activities.describing import DescribingActivities
from perdure.activities.loading import LoadingActivities, LoadingPolicy
from perdure.activities.models import ModelActivities
from perdure.activities.planning import PlanActivities
from perdure.activities.resuming import ResumeActivities
from perdure.activities.selecting import SelectionActivities
from perdure.activities.tools import ToolActivities, ToolHost
from perdure.activities.verifying import VerifyActivities
from perdure.app import App
from perdure.contracts.names import SHARED_QUEUE_SUFFIX
from perdure.contracts.usage import Price
from perdure.errors import SettingsError, suggest
from perdure.providers._redact import redact
from perdure.providers.prices import find_model
from perdure.providers.registry import ProviderConfig, Providers
from perdure.settings import Settings
from perdure.workflows.agent import AgentWorkflow
from perdure.workflows.interceptor import PerdureInterceptor
from perdure.workflows.map_workflows import MapNode, MapWorkflow
from perdure.workflows.plan_workflow import PlanWorkflow
from perdure.workflows.scoreboard import Scoreboard

PASSTHROUGH = ("perdure.contracts", "perdure.agents", "perdure.errors", "pydantic", "pydantic_core")
"""Data packages that the sandbox shares. Never `perdure.workflows`: that would switch its checks off."""

HEARTBEAT_THROTTLE = timedelta(seconds=1)
"""How late a worker learns that a call was cancelled; Temporal's default is 60 s."""

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
    workflows: Sequence[type]
    interceptors: Sequence[Interceptor]
    workflow_runner: WorkflowRunner
    models: ModelActivities
    providers: Providers
    host: ToolHost
    app: App

    @asynccontextmanager
    async def opened(self) -> AsyncGenerator[None]:
        """Open the app's resources, and close every connection at the end."""
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self.providers.aclose)
            stack.push_async_callback(self.host.http.aclose)
            stack.push_async_callback(self.models.aclose)
            if self.app.lifespan is not None:
                self.host.resources = await stack.enter_async_context(self.app.lifespan(self.app)) or {}
            yield


def sandboxed_runner() -> SandboxedWorkflowRunner:
    """Return the sandbox that users' workflows run in."""
    restrictions = SandboxRestrictions.default.with_passthrough_modules(*PASSTHROUGH)
    return SandboxedWorkflowRunner(restrictions=restrictions)


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


def models_known(settings: Settings) -> Callable[[str], tuple[Price | None, int | None]]:
    """Return what finds the price and the context window of a model: the user's own prices come first."""
    own = {name: Price(**table.model_dump()) for name, table in settings.prices.items()}

    def find(name: str) -> tuple[Price | None, int | None]:
        price, window = find_model(name)
        return own.get(name, price), window

    return find


def make_parts(app: App, settings: Settings) -> Parts:
    """Return the parts of a worker; nothing is opened yet."""
    providers = make_providers(app, settings)
    blobs = BlobStore(settings.project_dir / settings.state_dir / "blobs")
    host = ToolHost(
        http=httpx.AsyncClient(timeout=_HTTP_TIMEOUT_SECONDS), blobs=blobs, redact=_redactor(providers)
    )
    lookup = Lookup(app.registry, cache=MessageCache(settings.message_cache_bytes), specs=SpecCache())
    policy = LoadingPolicy(
        heartbeat_timeout=settings.heartbeat_timeout,
        search_attributes=_remembered_attributes(),
        find_model=models_known(settings),
        redact=host.redact,
        task_queues=settings.provider_queues(),
    )
    sharing = Sharing(settings.cache_scope)
    models = ModelActivities(
        registry=app.registry,
        providers=providers,
        lookup=lookup,
        blobs=host.blobs,
        redact=host.redact,
        sharing=sharing,
    )
    tools = ToolActivities(registry=app.registry, lookup=lookup, host=host, sharing=sharing)
    verifying = VerifyActivities(registry=app.registry, lookup=lookup, redact=host.redact)
    loading = LoadingActivities(registry=app.registry, providers=providers, lookup=lookup, policy=policy)
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
            selecting.record_outcomes,
        ],
        shared_activities=[tools.run_shared_tool, models.ask_shared_model],
        describing=DescribingActivities(providers.gates),
        workflows=[AgentWorkflow, MapNode, MapWorkflow, PlanWorkflow, Scoreboard, *app.workflows.values()],
        interceptors=[PerdureInterceptor()],
        workflow_runner=sandboxed_runner(),
        models=models,
        providers=providers,
        host=host,
        app=app,
    )


def new_identity(client: Client) -> str:
    """Return what a worker is known by: two containers that share a host's name have clients of one identity."""
    return f"{client.identity}/{uuid4().hex[:6]}"


def make_describing_worker(client: Client, parts: Parts, *, task_queue: str, identity: str) -> Worker:
    """Return the worker that says how the one beside it stands, on a Task Queue that no other polls."""
    return Worker(
        client,
        task_queue=worker_queue(task_queue, identity),
        activities=[parts.describing.describe_worker],
        identity=identity,
        activity_task_poller_behavior=PollerBehaviorSimpleMaximum(maximum=1),
        disable_eager_activity_execution=True,
    )


def make_shared_worker(
    client: Client, settings: Settings, parts: Parts, *, task_queue: str, identity: str
) -> Worker:
    """Return the worker of the calls that several runs share, whose slots no waiting call can take.

    Args:
        client: A connected client.
        settings: Sizes and times.
        parts: Of the worker beside it.
        task_queue: Of the worker beside it.
        identity: Of the worker beside it.
    """
    return Worker(
        client,
        identity=identity,
        task_queue=task_queue + SHARED_QUEUE_SUFFIX,
        activities=parts.shared_activities,
        max_concurrent_activities=settings.max_concurrent_shared_calls,
        max_heartbeat_throttle_interval=HEARTBEAT_THROTTLE,
        default_heartbeat_throttle_interval=HEARTBEAT_THROTTLE,
        graceful_shutdown_timeout=settings.grace_period,
    )


def make_provider_workers(client: Client, settings: Settings, parts: Parts, *, identity: str) -> list[Worker]:
    """Return a worker for the Task Queue of each provider that has one.

    The queue's rate goes along with each poll, so that the file says it; one that was set on the live system, by
    `perdure provider limit`, goes over it, for the server, until it is taken back.
    """
    return [
        Worker(
            client,
            task_queue=table.task_queue,
            identity=identity,
            activities=[parts.models.call_model],
            max_concurrent_activities=table.max_concurrent or settings.max_concurrent_activities,
            max_task_queue_activities_per_second=table.max_requests_per_second,
            max_heartbeat_throttle_interval=HEARTBEAT_THROTTLE,
            default_heartbeat_throttle_interval=HEARTBEAT_THROTTLE,
            graceful_shutdown_timeout=settings.grace_period,
        )
        for table in settings.providers.values()
        if table.task_queue is not None
    ]


def _redactor(providers: Providers) -> Callable[[str], str]:
    def redact_keys(text: str) -> str:
        variables = [status.key_env for status in providers.status() if status.key_env]
        return redact(text, [os.environ.get(name, "") for name in variables])

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
