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

from perdure._retention import check_retention
from perdure.app import App
from perdure.errors import RunError, SettingsError, UserError
from perdure.settings import Settings
from perdure.wiring import (
    PASSTHROUGH,
    make_describing_worker,
    make_parts,
    make_provider_workers,
    make_shared_worker,
)


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
        self._parts = parts = make_parts(app, self._settings)
        super().__init__(
            "perdure",
            data_converter=compose_converter,
            interceptors=list(parts.interceptors),
            activities=list(parts.activities),
            workflows=list(parts.workflows),
            workflow_runner=_compose_runner,
            workflow_failure_exception_types=[UserError, RunError],
            run_context=parts.opened,
        )

    async def run_worker(self, worker: Worker, next: Callable[[Worker], Awaitable[None]]) -> None:
        """Run a worker, and beside it those of providers' Task Queues and of the calls that several runs share."""

        async def run_all(worker: Worker) -> None:
            async with AsyncExitStack() as stack:
                for each in await self._beside(worker):
                    await stack.enter_async_context(each)
                await next(worker)

        await super().run_worker(worker, run_all)

    async def _beside(self, worker: Worker) -> list[Worker]:
        config = worker.client.config()
        config["plugins"] = []  # else this plugin would add itself again
        client = Client(**config)
        queue, identity = worker.task_queue, worker.config().get("identity") or client.identity
        found = make_provider_workers(client, self._settings, self._parts, identity=identity)
        found.append(make_describing_worker(client, self._parts, task_queue=queue, identity=identity))
        if self._parts.app.registry.shares_calls:
            await check_retention(worker.client, self._parts.app.registry)
            found.append(
                make_shared_worker(client, self._settings, self._parts, task_queue=queue, identity=identity)
            )
        return found


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
