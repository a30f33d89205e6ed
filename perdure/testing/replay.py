"""The replay gate: do recorded runs replay with the code at hand? Client side; it asks no model and runs no tool.

Workflow code must give the commands again that Event History has; a deploy that doesn't fails the workflow tasks
of every open run, until it is taken back. This finds out before.
"""

import json
import logging
import time
from collections.abc import AsyncIterator, Generator, Iterable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict
from temporalio import workflow
from temporalio.api.enums.v1 import EventType
from temporalio.client import Client, WorkflowHistory
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.converter import DataConverter
from temporalio.worker import Replayer, WorkflowReplayResult

from perdure.app import App
from perdure.connection import logging_runtime
from perdure.errors import InvalidInputError, RunError, UserError
from perdure.testing._causes import Cause, find_cause, read_message, unknown_workflow
from perdure.testing._recorder import Recorder
from perdure.wiring import all_workflows, sandboxed_runner
from perdure.workflows.interceptor import PerdureInterceptor

_CLOSED = {
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED,
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_FAILED,
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_TIMED_OUT,
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CANCELED,
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_TERMINATED,
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CONTINUED_AS_NEW,
}


class ReplayFault(BaseModel):
    """A run that can't go on with the code at hand."""

    model_config = ConfigDict(frozen=True)

    workflow_id: str
    run_id: str
    workflow: str
    """The workflow type."""
    event_id: int | None
    """Where history and code part; None where nothing tells."""
    event: str
    """Type of that event."""
    cause: str
    """What was probably changed, and what to do."""
    detail: str
    """Temporal's own words."""

    def __str__(self) -> str:
        """Return it in a line."""
        where = f", event {self.event_id} ({self.event})" if self.event_id else ""
        return f"{self.workflow} {self.workflow_id}{where}: {self.cause}"


class ReplayReport(BaseModel):
    """What a check came to."""

    model_config = ConfigDict(frozen=True)

    runs: int
    events: int
    seconds: float
    faults: tuple[ReplayFault, ...] = ()

    def __str__(self) -> str:
        """Return its faults, a line each."""
        return "\n".join(map(str, self.faults)) or f"{self.runs} runs replay."


async def check_replay(
    app: App,
    histories: AsyncIterator[WorkflowHistory] | Iterable[WorkflowHistory],
    *,
    data_converter: DataConverter = pydantic_data_converter,
) -> ReplayReport:
    """Replay histories with the workflows of an app, as its worker would.

    Args:
        app: The code at hand. Prompts, tools, limits and timeouts may differ from those of the runs: these are
            pinned, or no part of what is compared.
        histories: Of open or closed runs: `stored_histories`, `open_histories`.
        data_converter: As the workers have it: with their codec and external storage.
    """
    gate = _Gate(app, data_converter)
    started, runs, events = time.monotonic(), 0, 0
    faults: list[ReplayFault] = []
    with _silence():
        async for history, fault in gate.replay(_each(histories)):
            runs, events = runs + 1, events + len(history.events)
            if fault is not None:
                faults.append(fault)
    return ReplayReport(runs=runs, events=events, seconds=time.monotonic() - started, faults=tuple(faults))


async def open_histories(client: Client, query: str, *, limit: int = 10_000) -> AsyncIterator[WorkflowHistory]:
    """Yield the histories of the runs that a visibility query finds, the latest first.

    Raises:
        InvalidInputError: The server can't use the query. Not retryable.
        RPCError: Temporal's.
    """
    from perdure.client._runs import list_executions  # the client is needed for this alone

    async for info in list_executions(client, query, limit):
        execution = info.execution
        handle = client.get_workflow_handle(execution.workflow_id, run_id=execution.run_id)
        yield await handle.fetch_history()


def stored_histories(folder: Path) -> list[WorkflowHistory]:
    """Read every `*.json` below a folder: cassettes, and histories as Temporal's own tools write them.

    Raises:
        InvalidInputError: There is none, or one is no history. Not retryable.
    """
    paths = sorted(folder.rglob("*.json")) if folder.is_dir() else [folder]
    if not paths:
        raise InvalidInputError(f"There is no history in {folder}: `perdure replay export` writes *.json files.")
    return [history for path in paths for history in _read(path)]


def _read(path: Path) -> Iterable[WorkflowHistory]:
    try:
        data: Any = json.loads(path.read_text(encoding="utf-8"))
        if "events" in data:
            yield _history(data, path.stem)
            return
        for run in data["runs"]:
            yield _history(run["history"], run["workflow_id"])
    except OSError as error:
        raise InvalidInputError(f"Can't read {path}: {error.strerror}.") from None
    except (ValueError, KeyError, TypeError) as error:
        problem = (str(error).splitlines() or [""])[0][:200]
        raise InvalidInputError(
            f"{path} is neither a cassette nor a history as `temporal workflow show -o json` writes it: {problem}"
        ) from None


def _history(data: Any, name: str) -> WorkflowHistory:
    history = WorkflowHistory.from_json(name, data)
    if not history.events:
        raise ValueError("it has no events")
    started = history.events[0].workflow_execution_started_event_attributes
    return WorkflowHistory(started.workflow_id or name, history.events)


class _Gate:
    def __init__(self, app: App, converter: DataConverter) -> None:
        self._recorder = Recorder()
        workflows = all_workflows(app)
        self._names = [_name(each) for each in workflows]
        self._own = list(app.workflows)
        self._replayer = Replayer(
            workflows=workflows,
            data_converter=converter,
            interceptors=[self._recorder, PerdureInterceptor()],
            workflow_runner=sandboxed_runner(),
            workflow_failure_exception_types=[UserError, RunError],
            runtime=logging_runtime(),
        )

    async def replay(
        self, histories: AsyncIterator[WorkflowHistory]
    ) -> AsyncIterator[tuple[WorkflowHistory, ReplayFault | None]]:
        unknown: list[tuple[WorkflowHistory, ReplayFault]] = []

        async def known() -> AsyncIterator[WorkflowHistory]:
            async for history in histories:
                name = _workflow_type(history)
                if name in self._names:
                    yield history
                else:  # the replayer would tell no more than that it fails
                    cause = unknown_workflow(name, self._own or self._names)
                    unknown.append((history, _fault(history, cause, "")))

        async with self._replayer.workflow_replay_iterator(known()) as results:
            async for result in results:
                yield result.history, self._judge(result)
        for each in unknown:
            yield each

    def _judge(self, result: WorkflowReplayResult) -> ReplayFault | None:
        history, failure = result.history, result.replay_failure
        asked = self._recorder.steps.pop(history.run_id, [])
        defect = self._recorder.defects.pop(history.run_id, "")
        last = history.events[-1]
        if defect and (failure is not None or last.event_type not in _CLOSED):
            text = f"The code raises an exception where the run went on: {defect}"
            return _fault(
                history, Cause(last.event_id, "", text), "" if failure is None else read_message(failure)
            )
        if failure is None:
            return None
        message = read_message(failure)
        if isinstance(failure, workflow.NondeterminismError):
            return _fault(history, find_cause(message, history.events, asked), message)
        return _fault(history, Cause(None, "", f"The code can't be run: {message}"), message)


def _fault(history: WorkflowHistory, cause: Cause, detail: str) -> ReplayFault:
    return ReplayFault(
        workflow_id=history.workflow_id,
        run_id=history.run_id,
        workflow=_workflow_type(history),
        event_id=cause.event_id,
        event=cause.event,
        cause=cause.text,
        detail=detail,
    )


def _workflow_type(history: WorkflowHistory) -> str:
    return history.events[0].workflow_execution_started_event_attributes.workflow_type.name


def _name(cls: type) -> str:
    definition = workflow._Definition.must_from_class(cls)  # pyright: ignore[reportPrivateUsage] - no public way
    return definition.name or cls.__name__


async def _each(
    histories: AsyncIterator[WorkflowHistory] | Iterable[WorkflowHistory],
) -> AsyncIterator[WorkflowHistory]:
    if isinstance(histories, AsyncIterator):
        async for history in histories:
            yield history
    else:
        for history in histories:
            yield history


@contextmanager
def _silence() -> Generator[None]:
    """Keep the SDK from logging each failure with its traceback: the report says it."""
    logger = logging.getLogger("temporalio")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(level)
