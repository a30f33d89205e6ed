"""`PerdurePlugin`: one line adds perdure to a Temporal client, and to the workers made with it. Wiring only."""

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import replace

from temporalio.client import Client
from temporalio.contrib.pydantic import PydanticPayloadConverter, pydantic_data_converter
from temporalio.converter import DataConverter, DefaultPayloadConverter
from temporalio.plugin import SimplePlugin
from temporalio.worker import Worker, WorkflowRunner
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner

from perdure._instruments import TelemetryInterceptor
from perdure._retention import check_retention
from perdure._workers import make_workers_beside
from perdure.app import App
from perdure.errors import RunError, SettingsError, UserError
from perdure.settings import Settings
from perdure.storage.opening import external_storage, with_storage
from perdure.telemetry.client import CallerContext
from perdure.telemetry.metrics import meter_of
from perdure.wiring import PASSTHROUGH, make_parts


class PerdurePlugin(SimplePlugin):
    """Give it to `Client.connect(…, plugins=[PerdurePlugin(app)])`, and to nothing else.

    Every worker of that client then runs the app's agents, beside its own workflows and activities. The data
    converter is composed, never replaced: codec and failure converter stay what they are.

    Args:
        app: The agents, tools and workflows.
        settings: Found like the command line's when not given.

    Raises:
        SettingsError: A setting, or the client's payload converter, can't be used. Not retryable.
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
            workflow_runner=_compose_runner,
            workflow_failure_exception_types=[UserError, RunError],
            run_context=parts.opened,
        )

    def _compose_converter(self, converter: DataConverter | None) -> DataConverter:
        composed = with_storage(compose_converter(converter), external_storage(self._settings))
        self._parts.host.has_storage = composed.external_storage is not None
        return composed

    async def run_worker(self, worker: Worker, next: Callable[[Worker], Awaitable[None]]) -> None:
        """Run a worker, and beside it those of the calls that have a Task Queue of their own."""
        parts = self._parts
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

    Raises:
        SettingsError: Its payload converter is another one, which perdure can't guess how to combine.
    """
    if converter is None:
        return pydantic_data_converter
    if issubclass(converter.payload_converter_class, PydanticPayloadConverter):
        return converter
    if converter.payload_converter_class is DefaultPayloadConverter:
        return replace(converter, payload_converter_class=PydanticPayloadConverter)
    raise SettingsError(
        f"The payload converter {converter.payload_converter_class.__name__} can't be combined with perdure: make "
        "it a subclass of temporalio.contrib.pydantic.PydanticPayloadConverter."
    )


def _compose_runner(runner: WorkflowRunner | None) -> WorkflowRunner:
    if runner is None:
        runner = SandboxedWorkflowRunner()
    if not isinstance(runner, SandboxedWorkflowRunner):
        return runner
    return replace(runner, restrictions=runner.restrictions.with_passthrough_modules(*PASSTHROUGH))
