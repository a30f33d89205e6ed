"""`run_agent_test`: an agent's run on Temporal's time-skipping server. Wiring for tests.

Timers, deadlines and the waits between attempts take no time there; everything else is real: workflow, activities,
history, and the models and tools that the app has.
"""

import asyncio
import os
import shutil
import sys
import tempfile
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import takewhile
from pathlib import Path
from typing import Any
from uuid import uuid4

from pydantic import JsonValue
from temporalio.client import Client, WorkflowFailureError, WorkflowHistory
from temporalio.common import WorkflowIDConflictPolicy
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Interceptor, Worker

from perdure.app import App
from perdure.client.perdure_client import to_run_error
from perdure.connection import connect
from perdure.contracts.limits import Limits
from perdure.contracts.messages import ContentPart, Message, TextPart, ToolResultPart
from perdure.contracts.names import AGENT_WORKFLOW
from perdure.contracts.run import Counters, RunInput, RunResult
from perdure.devserver import DevServer
from perdure.errors import DevServerError, PerdureError, StillRunningError
from perdure.history import RecordedRun, decode_events, read_output
from perdure.plugin import PerdurePlugin
from perdure.settings import Settings
from perdure.testing._workers import WorkerRunner

Drive = Callable[[Client, str], Awaitable[None]]
"""Is given the client and the workflow id while the run goes on: for signals, decisions, messages."""

RUNNER: ContextVar[WorkerRunner | None] = ContextVar("perdure_worker_runner", default=None)
"""What runs the worker, where that is to be in processes of its own."""


@dataclass(frozen=True)
class ToolUse:
    """A tool call of a run, and its result."""

    name: str
    arguments: str
    """JSON text, as the model wrote it."""
    outcome: str
    """`ok`, `error`, `unknown` or `denied`; empty where there is none."""
    result: str
    """The text of the result."""


@dataclass(frozen=True, kw_only=True)
class AgentRun:
    """What became of an agent's run.

    Attributes:
        output: Text, or the JSON of the agent's output type; None where it failed.
        error: What it failed with.
        messages: The conversation, in order.
        tool_uses: Its tool calls, in order.
        counters: Turns, calls and usage, as the run counted them; zero where it failed.
        recorded: All that history tells.
        history: Of the last run of its chain.
    """

    workflow_id: str
    output: JsonValue
    error: PerdureError | None
    messages: Sequence[Message]
    tool_uses: Sequence[ToolUse]
    counters: Counters
    recorded: RecordedRun
    history: WorkflowHistory
    result: RunResult | None = field(default=None, repr=False)

    @property
    def text(self) -> str:
        """The output as text; of a failed run its error."""
        return str(self.error) if self.error is not None else str(self.output)


@asynccontextmanager
async def time_skipping_server() -> AsyncGenerator[WorkflowEnvironment]:
    """Run Temporal's time-skipping test server, and yield its environment.

    Raises:
        DevServerError: It isn't installed. Not retryable.
    """
    environment = await WorkflowEnvironment.start_time_skipping(
        test_server_existing_path=_find_server(), data_converter=pydantic_data_converter
    )
    async with environment:
        yield environment


def _find_server() -> str:
    name = "temporal-test-server.exe" if sys.platform == "win32" else "temporal-test-server"
    found = shutil.which(str(Path(sys.executable).parent / name)) or shutil.which(name)
    if found is None:
        raise DevServerError("Temporal's test server isn't installed: `pip install 'perdure[dev-server]'`.")
    return os.path.abspath(found)


async def run_agent_test(
    app: App,
    agent: str,
    input: str | Sequence[ContentPart],
    *,
    limits: Limits | None = None,
    context: Mapping[str, JsonValue] | None = None,
    drive: Drive | None = None,
    timeout: timedelta = timedelta(seconds=30),
    environment: WorkflowEnvironment | None = None,
    settings: Settings | None = None,
    interceptors: Sequence[Interceptor] = (),
) -> AgentRun:
    """Run an agent to its end; what it fails with is returned, and not raised.

    Args:
        app: With its agents, tools and models: `ScriptedModel` needs neither key nor network.
        agent: Its name.
        input: Text, or content parts.
        limits: Over the agent's own.
        context: Values for instructions and tools.
        drive: Steers the run while it goes on.
        timeout: Of the clock on the wall, for all of it.
        environment: A server that runs already, such as the fixture `perdure_server`; else one is started.
        settings: The project's when not given.
        interceptors: Of the worker.

    Raises:
        StillRunningError: The run isn't over within `timeout`: it waits for somebody, perhaps. Retryable.
        DevServerError: The test server isn't installed. Not retryable.
    """
    request = RunInput(
        agent=agent,
        input=(TextPart(text=input),) if isinstance(input, str) else tuple(input),
        limits=limits or Limits(),
        context=dict(context) if context is not None else None,
    )
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="perdure-test-")))
        made = (settings or Settings.resolve().settings).model_copy(update={"state_dir": folder})
        worker = RUNNER.get()
        if worker is not None:  # what is lost with a worker is noticed by clocks, which can't be skipped
            server = await stack.enter_async_context(DevServer(folder, port=0, ui_port=0, in_memory=True))
            client = await connect(address=server.address)
        else:
            client = (environment or await stack.enter_async_context(time_skipping_server())).client
        queue, workflow_id = f"test-{uuid4().hex[:8]}", f"{agent}-{uuid4().hex[:8]}"
        serving = worker.serving(app, client, queue) if worker else _serve(app, client, queue, made, interceptors)
        await stack.enter_async_context(serving)
        return await _run(client, request, queue, workflow_id, drive, timeout)


@asynccontextmanager
async def _serve(
    app: App, client: Client, queue: str, settings: Settings, interceptors: Sequence[Interceptor]
) -> AsyncGenerator[None]:
    config = client.config(active_config=True)
    config["plugins"] = [PerdurePlugin(app, settings)]
    async with Worker(Client(**config), task_queue=queue, interceptors=interceptors):
        yield


async def _run(
    client: Client, request: RunInput, queue: str, workflow_id: str, drive: Drive | None, timeout: timedelta
) -> AgentRun:
    handle = await client.start_workflow(
        AGENT_WORKFLOW,
        request,
        id=workflow_id,
        task_queue=queue,
        result_type=RunResult,
        id_conflict_policy=WorkflowIDConflictPolicy.FAIL,
    )
    result: RunResult | None = None
    error: PerdureError | None = None
    driving = asyncio.ensure_future(drive(client, workflow_id)) if drive is not None else None
    try:
        async with asyncio.timeout(timeout.total_seconds()):
            if driving is not None:
                await driving
            result = await handle.result()
    except WorkflowFailureError as failed:
        error = to_run_error(workflow_id, failed)
    except TimeoutError:
        raise StillRunningError(
            f"The run of {request.agent!r} isn't over after {timeout.total_seconds():g} s: it may wait for a "
            "person, or a model or tool takes as long."
        ) from None
    return await _describe(client, workflow_id, result, error)


async def _describe(
    client: Client, workflow_id: str, result: RunResult | None, error: PerdureError | None
) -> AgentRun:
    history = await client.get_workflow_handle(workflow_id).fetch_history()
    recorded = await decode_events(_events(history), client.data_converter)
    conversation = recorded.conversation()
    messages = [conversation[slot] for slot in sorted(conversation)]
    output = None
    if result is not None:
        output = result.output if result.output_slot is None else await read_output(client, workflow_id)
    return AgentRun(
        workflow_id=workflow_id,
        output=output,
        error=error,
        messages=messages,
        tool_uses=tool_uses(messages),
        counters=Counters() if result is None else result.counters,
        recorded=recorded,
        history=history,
        result=result,
    )


async def _events(history: WorkflowHistory) -> AsyncGenerator[Any]:
    for event in history.events:
        yield event


def tool_uses(messages: Sequence[Message]) -> list[ToolUse]:
    """Return the tool calls of a conversation, each with its result."""
    uses: list[ToolUse] = []
    for index, message in enumerate(messages):
        results = _results(messages[index + 1 :]) if message.tool_calls else {}
        for call in message.tool_calls:
            part = results.get(call.id)
            texts = [] if part is None else [each.text for each in part.content if isinstance(each, TextPart)]
            uses.append(ToolUse(call.name, call.arguments, part.outcome if part else "", "".join(texts)))
    return uses


def _results(messages: Sequence[Message]) -> dict[str, ToolResultPart]:
    """Return the results up to the model's next message: ids of calls may come again after it."""
    answers = takewhile(lambda message: message.role != "assistant", messages)
    parts = (part for message in answers for part in message.parts)
    return {part.call_id: part for part in parts if isinstance(part, ToolResultPart)}
