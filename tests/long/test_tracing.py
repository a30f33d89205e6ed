"""One trace for a tree of runs: no gap, no orphan and no double, whatever dies meanwhile."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import Client, WorkflowHistory
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import Interceptor, Replayer, WorkflowInboundInterceptor, WorkflowInterceptorClassInput

from perdure.client import PerdureClient
from perdure.connection import connect
from perdure.contracts.run import RunResult
from perdure.contracts.tracing import SpanFact
from perdure.devserver import DevServer
from perdure.workflows._trace import IS_SAMPLED, TELL
from perdure.workflows.agent import AgentWorkflow
from perdure.workflows.interceptor import PerdureInterceptor
from perdure.workflows.tracing import TracingInbound
from tests.fakes.conversing import ConversingServer
from tests.fakes.otlp import OtlpReceiver, ReceivedSpan
from tests.fakes.replies import FakeCall, FakeReply
from tests.support.workers import WorkerProcess

APP = "tests.support.trace_app:app"
TIME = timedelta(seconds=60)
KILLED_AT = 3
CHARGED_AT = 4
TURNS = 16
CALLER = SpanContext(0xC0FFEE, 0xFEED, is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED))

Attempt = tuple[str, str, int]
"""Of which run, which activity, which attempt."""


@pytest.fixture(scope="module")
async def strict(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[DevServer]:
    """A server that suggests Continue-As-New early."""
    config = {"limit.historyCount.suggestContinueAsNew": "60"}
    folder = tmp_path_factory.mktemp("strict")
    async with DevServer(folder, port=0, ui_port=0, in_memory=True, dynamic_config=config) as server:
        yield server


def _decide(turn: int, messages: list[dict[str, Any]]) -> FakeReply:
    if "helper" in json.dumps(messages[0]):
        return FakeReply(text="helped")
    if turn == TURNS:
        return FakeReply(text="the end")
    tools: dict[int, tuple[str, dict[str, Any]]] = {
        0: ("flaky", {}),
        1: ("helper", {"input": "help"}),
        2: ("near", {"number": 1}),
        CHARGED_AT: ("charge", {}),
    }
    name, arguments = tools.get(turn, ("far" if turn % 2 else "near", {"number": turn}))
    return FakeReply(calls=(FakeCall(f"call_{turn}", name, json.dumps(arguments)),))


class _Fake(ConversingServer):
    """Holds the reply of one turn until it is let go."""

    def __init__(self) -> None:
        super().__init__(_decide)
        self.held, self.let_go = asyncio.Event(), asyncio.Event()

    async def _send(self, asked: dict[str, Any], reply: FakeReply, connection: Any) -> None:
        turn = sum(message["role"] == "assistant" for message in asked["messages"])
        if turn == KILLED_AT:
            self.held.set()
            await self.let_go.wait()
        await super()._send(asked, reply, connection)


@pytest.fixture(scope="module")
async def traced(strict: DevServer, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator["Traced"]:
    async with AsyncExitStack() as stack:
        receiver = await stack.enter_async_context(OtlpReceiver())
        fake = await stack.enter_async_context(_Fake())
        temporal = await connect(address=strict.address)
        client = PerdureClient(temporal, task_queue=f"q-{uuid4().hex[:8]}")
        folder = tmp_path_factory.mktemp("state")
        yield await _run_with_crashes(strict, client, fake, receiver, folder)


class Traced:
    """What came of the run."""

    def __init__(
        self, client: Client, spans: list[ReceivedSpan], histories: dict[str, list[HistoryEvent]]
    ) -> None:
        self.client = client
        self.spans = spans
        self.histories = histories
        """By run id."""


async def _run_with_crashes(
    server: DevServer, client: PerdureClient, fake: _Fake, receiver: OtlpReceiver, folder: Path
) -> Traced:
    env = {**fake.env, **receiver.env, "OTEL_BSP_SCHEDULE_DELAY": "600000"}  # killed workers have sent nothing

    def new_worker() -> WorkerProcess:
        options = {"heartbeat_timeout": 2, "state_dir": str(folder)}
        return WorkerProcess(server.address, client.task_queue, APP, env=env, **options)

    worker = new_worker()
    await worker.start()
    token = otel_context.attach(trace.set_span_in_context(NonRecordingSpan(CALLER)))
    started = await client.start_agent("boss", "go")
    otel_context.detach(token)
    try:
        await asyncio.wait_for(fake.held.wait(), 40)
        await worker.kill()
        fake.let_go.set()
        worker = new_worker()
        await worker.start()
        await _pending(client, started.workflow_id, "perdure.call_tool")
        await worker.kill()
        assert not receiver.spans, "what was sent is no test of what was kept"
        worker = new_worker()
        await worker.start()
        result = await client.result(started.workflow_id, timeout=TIME)
        assert await worker.stop() == 0
    finally:
        await worker.kill()
    assert isinstance(result, RunResult)
    assert result.output == "the end"
    histories: dict[str, list[HistoryEvent]] = {}
    await _collect(client.temporal, started.workflow_id, started.run_id, histories)
    return Traced(client.temporal, receiver.spans, histories)


async def _pending(client: PerdureClient, workflow_id: str, kind: str) -> None:
    async with asyncio.timeout(30):
        while True:
            described = await client.temporal.get_workflow_handle(workflow_id).describe()
            open_calls = described.raw_description.pending_activities
            if any(each.activity_type.name == kind and each.HasField("last_started_time") for each in open_calls):
                return
            await asyncio.sleep(0.05)


async def _collect(client: Client, workflow_id: str, run_id: str, found: dict[str, list[HistoryEvent]]) -> None:
    """Read the histories of a run, of those that it continued as, and of its children."""
    while run_id:
        handle = client.get_workflow_handle(workflow_id, run_id=run_id)
        events = list((await handle.fetch_history()).events)
        found[run_id] = events
        run_id = ""
        for event in events:
            child = event.child_workflow_execution_started_event_attributes.workflow_execution
            if child.run_id:
                await _collect(client, child.workflow_id, child.run_id, found)
            run_id = event.workflow_execution_continued_as_new_event_attributes.new_execution_run_id or run_id


def _attempts(histories: dict[str, list[HistoryEvent]]) -> set[Attempt]:
    """Return every attempt that Event History has: of activities, and of local ones."""
    found: set[Attempt] = set()
    for run_id, events in histories.items():
        ids = {event.event_id: event.activity_task_scheduled_event_attributes.activity_id for event in events}
        for event in events:
            started = event.activity_task_started_event_attributes
            if started.attempt:
                activity_id = ids[started.scheduled_event_id]
                found |= {(run_id, activity_id, number) for number in range(1, started.attempt + 1)}
            marker = event.marker_recorded_event_attributes
            if marker.marker_name == "core_local_activity":
                data = json.loads(marker.details["data"].payloads[0].data)
                found |= {(run_id, data["activity_id"], number) for number in range(1, data["attempt"] + 1)}
    return found


def _attempt(span: ReceivedSpan) -> Attempt:
    known = span.attributes
    return known["temporalRunID"], known["temporalActivityID"], known["perdure.attempt"]


def test_the_faults_happened(traced: Traced) -> None:
    attempts = [attempt for _, _, attempt in _attempts(traced.histories)]
    assert max(attempts) == 2
    assert len(traced.histories) >= 3, "there is no Continue-As-New, or no child"
    events = [event for events in traced.histories.values() for event in events]
    assert any(event.HasField("activity_task_timed_out_event_attributes") for event in events)


def test_each_attempt_in_history_has_one_span(traced: Traced) -> None:
    spans = Counter(_attempt(span) for span in traced.spans if "temporalActivityID" in span.attributes)
    assert set(spans) == _attempts(traced.histories)
    assert set(spans.values()) == {1}


def test_it_is_one_trace_without_orphans_and_doubles(traced: Traced) -> None:
    assert {span.trace_id for span in traced.spans} == {format(CALLER.trace_id, "032x")}
    ids = Counter(span.span_id for span in traced.spans)
    assert set(ids.values()) == {1}
    outside = [span.name for span in traced.spans if span.parent_id not in ids]
    assert outside == ["invoke_agent boss"]
    root = next(span for span in traced.spans if span.name == "invoke_agent boss")
    assert root.parent_id == format(CALLER.span_id, "016x")
    for span in traced.spans:
        assert root.began_ns <= span.began_ns <= span.ended_ns <= root.ended_ns + 10**9


@pytest.mark.parametrize("is_traced", [True, False])
async def test_replay_tells_nothing_and_needs_no_tracing(traced: Traced, is_traced: bool) -> None:
    told: list[SpanFact] = []

    class Telling(Interceptor):
        def workflow_interceptor_class(
            self, input: WorkflowInterceptorClassInput
        ) -> type[WorkflowInboundInterceptor] | None:
            input.unsafe_extern_functions.update({TELL: told.append, IS_SAMPLED: bool})
            return TracingInbound

    replayer = Replayer(
        workflows=[AgentWorkflow],
        data_converter=pydantic_data_converter,
        interceptors=[PerdureInterceptor(), *([Telling()] if is_traced else [])],
    )
    for events in traced.histories.values():
        workflow_id = events[0].workflow_execution_started_event_attributes.workflow_id
        await replayer.replay_workflow(WorkflowHistory(workflow_id, events))
    assert told == []


def test_spans_have_names_kinds_and_figures(traced: Traced) -> None:
    names = Counter(span.name for span in traced.spans)
    assert names["invoke_agent boss"] == names["invoke_agent helper"] == 1
    assert names["execute_tool flaky"] == 2
    assert names["inside the tool"] == 1
    assert names["execute_tool charge"] == 1
    assert names["chat fake"] == TURNS + 1 + 1 + 1, "each turn, the helper's, and the attempt that was lost"
    root = next(span for span in traced.spans if span.name == "invoke_agent boss")
    assert root.attributes["gen_ai.operation.name"] == "invoke_agent"
    assert root.attributes["perdure.turns"] == TURNS + 1
    chats = [span for span in traced.spans if span.name == "chat fake"]
    whole = [span for span in chats if not span.error]
    used = sum(span.attributes["gen_ai.usage.input_tokens"] for span in whole)
    helped = next(span for span in traced.spans if span.name == "invoke_agent helper")
    figure = "gen_ai.usage.input_tokens"
    assert root.attributes[figure] + helped.attributes[figure] == used > 0
    assert {span.attributes["gen_ai.provider.name"] for span in chats} == {"openai"}
    assert {span.attributes["gen_ai.response.finish_reasons"] for span in whole} == {("tool_calls",), ("end",)}
    assert {span.kind for span in chats if not span.attributes.get("perdure.attempt.lost")} == {3}, "a client's"


def test_lost_and_failed_attempts_say_so(traced: Traced) -> None:
    failed = {(span.name, span.error, span.attributes["perdure.attempt"]) for span in traced.spans if span.error}
    assert failed == {
        ("execute_tool flaky", "ToolError", 1),
        ("chat fake", "WorkerLost", 1),
        ("execute_tool charge", "WorkerLost", 1),
    }
    inside = next(span for span in traced.spans if span.name == "inside the tool")
    above = next(span for span in traced.spans if span.span_id == inside.parent_id)
    assert (above.name, above.attributes["perdure.attempt"]) == ("execute_tool flaky", 2)
