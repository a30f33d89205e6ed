"""`PerdurePlugin`: one line adds perdure to a Temporal client, and to the workers made with it. Wiring only."""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import replace

from temporalio.client import Client, ClientConfig, WorkflowHistory
from temporalio.contrib.pydantic import PydanticPayloadConverter, pydantic_data_converter
from temporalio.converter import DataConverter, DefaultPayloadConverter
from temporalio.plugin import SimplePlugin
from temporalio.worker import (
    Replayer,
    ReplayerConfig,
    Worker,
    WorkerConfig,
    WorkflowReplayResult,
    WorkflowRunner,
)
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner

from perdure._converters import beside
from perdure._instruments import TelemetryInterceptor
from perdure._retention import check_retention
from perdure._workers import make_workers_beside
from perdure.app import App, workflow_name
from perdure.encryption import check_keys, encryption_codec, with_encryption
from perdure.errors import RunError, UserError
from perdure.settings import Settings
from perdure.storage.opening import decoding, external_storage, with_storage
from perdure.telemetry.client import CallerContext
from perdure.telemetry.metrics import meter_of
from perdure.wiring import PASSTHROUGH, make_parts

Replaying = AbstractAsyncContextManager[AsyncIterator[WorkflowReplayResult]]


class PerdurePlugin(SimplePlugin):
    """Give it to `Client.connect(…, plugins=[PerdurePlugin(app)])`, and to nothing else.

    Every worker of that client then runs the app's agents, beside its own workflows and activities. The data
    converter is composed, never replaced: codec and failure converter stay what they are.

    Args:
        app: The agents, tools and workflows.
        settings: Found like the command line's when not given.

    Raises:
        SettingsError: A setting can't be used; of a worker also, that the key that encrypts isn't there. Not
            retryable.
    """

    def __init__(self, app: App, settings: Settings | None = None) -> None:
        """Make the parts; they are opened when a worker runs."""
        self._settings = settings or Settings.resolve().settings
        parts = make_parts(app, self._settings)
        if not parts.telemetry.is_on:  # metrics are only known with the client's runtime
            added = TelemetryInterceptor(parts.telemetry)
            parts = replace(parts, interceptors=[*parts.interceptors, added])
        self._parts = parts
        super().__init__(
            "perdure",
            data_converter=self._compose_converter,
            interceptors=[*parts.interceptors, CallerContext()],
            activities=list(parts.activities),
            workflows=list(parts.workflows),
            workflow_runner=compose_runner,
            workflow_failure_exception_types=[UserError, RunError],
            run_context=self._opened,
        )
        self._workers = 0
        self._stack = AsyncExitStack()

    def configure_client(self, config: ClientConfig) -> ClientConfig:
        """Add the converter and the interceptors."""
        config = super().configure_client(config)
        if self._settings.encryption is not None:
            config["interceptors"] = [*config["interceptors"], *decoding(config["data_converter"])]
        return config

    def configure_worker(self, config: WorkerConfig) -> WorkerConfig:
        """Add what the app has; what the worker has already, under the same name, is there once."""
        own = [*config.get("workflows", [])]
        config = super().configure_worker(config)
        config["workflows"] = _once(own, config.get("workflows", []))
        return config

    def configure_replayer(self, config: ReplayerConfig) -> ReplayerConfig:
        """Add what decides in a replay."""
        own = [*config.get("workflows", [])]
        config = super().configure_replayer(config)
        config["workflows"] = _once(own, config.get("workflows", []))
        return config

    @asynccontextmanager
    async def run_replayer(
        self,
        replayer: Replayer,
        histories: AsyncIterator[WorkflowHistory],
        next: Callable[[Replayer, AsyncIterator[WorkflowHistory]], Replaying],
    ) -> AsyncGenerator[AsyncIterator[WorkflowReplayResult]]:
        """Replay without the app's resources: nothing but workflow code runs."""
        async with next(replayer, histories) as results:
            yield results

    def _compose_converter(self, converter: DataConverter | None) -> DataConverter:
        known = with_encryption(compose_converter(converter), encryption_codec(self._settings))
        composed = with_storage(known, external_storage(self._settings))
        self._parts.host.has_storage = composed.external_storage is not None
        return composed

    @asynccontextmanager
    async def _opened(self) -> AsyncGenerator[None]:
        """Open the parts with the first worker of the client, and close them after the last."""
        self._workers += 1
        try:
            if self._workers == 1:
                await self._stack.enter_async_context(self._parts.opened())
            yield
        finally:
            self._workers -= 1
            if not self._workers:
                await self._stack.aclose()

    async def run_worker(self, worker: Worker, next: Callable[[Worker], Awaitable[None]]) -> None:
        """Run a worker, and beside it those of the calls that have a Task Queue of their own."""
        parts = self._parts
        check_keys(worker.client.data_converter)
        parts.telemetry.count_with(meter_of(worker.client))

        async def run_all(worker: Worker) -> None:
            async with AsyncExitStack() as stack:
                await stack.enter_async_context(parts.telling(worker.client))
                for each in await self._beside(worker):
                    await stack.enter_async_context(each)
                await next(worker)

        await super().run_worker(worker, run_all)

    async def _beside(self, worker: Worker) -> list[Worker]:
        if self._parts.app.registry.shares_calls:
            await check_retention(worker.client, self._parts.app.registry)
        config = worker.client.config(active_config=True)
        config["plugins"] = []  # else this plugin would add itself again
        client = Client(**config)
        identity = worker.config(active_config=True).get("identity") or client.identity
        return make_workers_beside(
            client, self._settings, self._parts, task_queue=worker.task_queue, identity=identity
        )


def compose_converter(converter: DataConverter | None) -> DataConverter:
    """Return a converter that knows pydantic, with codec and failure converter of the one given.

    A payload converter of the user's own keeps what it converted; perdure's contracts are converted beside it.
    """
    if converter is None:
        return pydantic_data_converter
    own = converter.payload_converter_class
    if own is DefaultPayloadConverter:
        return replace(converter, payload_converter_class=PydanticPayloadConverter)
    composed = beside(own)
    return converter if composed is own else replace(converter, payload_converter_class=composed)


def _once(own: Sequence[type], added: Sequence[type]) -> list[type]:
    """Return the workflow classes without a second one of a name; the worker's own come first."""
    named = {workflow_name(cls) or cls.__qualname__: cls for cls in reversed([*own, *added])}
    return list(named.values())[::-1]


def compose_runner(runner: WorkflowRunner | None) -> WorkflowRunner:
    """Return a sandbox that shares perdure's data packages too; another runner stays what it is."""
    if runner is None:
        runner = SandboxedWorkflowRunner()
    if not isinstance(runner, SandboxedWorkflowRunner):
        return runner
    return replace(runner, restrictions=runner.restrictions.with_passthrough_modules(*PASSTHROUGH))
