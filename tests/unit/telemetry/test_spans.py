"""Spans: ids of ours, told once, by whatever provider."""

import threading
import time
from collections.abc import Iterator, Sequence

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from perdure.contracts.tracing import SpanFact, TraceContext, root_trace_id, span_id
from perdure.telemetry.spans import Spans, current

TRACE = root_trace_id("ns", "w", "r")
OWN = TraceContext(TRACE, span_id(TRACE, "run"))


@pytest.fixture
def sent() -> Iterator[tuple[Spans, TracerProvider, InMemorySpanExporter]]:
    provider, exporter = TracerProvider(), InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    yield Spans(provider), provider, exporter
    provider.shutdown()


def _ids(span: ReadableSpan) -> tuple[str, str, str]:
    assert span.context is not None
    parent = "" if span.parent is None else f"{span.parent.span_id:016x}"
    return f"{span.context.trace_id:032x}", f"{span.context.span_id:016x}", parent


def test_a_root_and_what_is_below_it(sent: tuple[Spans, TracerProvider, InMemorySpanExporter]) -> None:
    spans, provider, exporter = sent
    below = OWN._replace(span_id=span_id(TRACE, "activity"))
    span = spans.start("call", below, OWN.span_id, began_ns=1)
    with current(span), provider.get_tracer("user").start_as_current_span("of the user"):
        pass
    spans.end(span, error="Broken", ended_ns=2)
    spans.tell(SpanFact(name="run", context=OWN, parent_id="", began_ns=1, ended_ns=3))
    users, call, run = exporter.get_finished_spans()
    assert _ids(run) == (TRACE, OWN.span_id, "")
    assert _ids(call) == (TRACE, below.span_id, OWN.span_id)
    assert (call.start_time, call.end_time, call.status.description) == (1, 2, "Broken")
    assert call.attributes == {"error.type": "Broken"}
    trace_id, random_id, parent = _ids(users)
    assert (trace_id, parent) == (TRACE, below.span_id)
    assert random_id not in (OWN.span_id, below.span_id)


def test_a_span_is_told_once(sent: tuple[Spans, TracerProvider, InMemorySpanExporter]) -> None:
    spans, _, exporter = sent
    fact = SpanFact(name="run", context=OWN, parent_id="", began_ns=1, ended_ns=3)
    spans.tell(fact)
    spans.tell(fact)
    late = spans.start("run", OWN, "", began_ns=1)
    spans.end(late)
    assert len(exporter.get_finished_spans()) == 1


async def test_facts_of_other_threads_are_told_by_the_loop(
    sent: tuple[Spans, TracerProvider, InMemorySpanExporter],
) -> None:
    spans, _, exporter = sent
    fact = SpanFact(name="run", context=OWN, parent_id="", began_ns=1, ended_ns=3)
    spans.tell_soon(fact)  # nobody runs yet
    spans.attach()
    spans.tell_soon(fact)
    assert exporter.get_finished_spans() == ()
    await spans.aclose()
    assert [span.name for span in exporter.get_finished_spans()] == ["run"]


def test_a_trace_that_is_not_kept_is_not_sent() -> None:
    provider, exporter = TracerProvider(sampler=ALWAYS_OFF), InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    spans = Spans(provider)
    assert not spans.is_sampled(TRACE)
    spans.tell(SpanFact(name="run", context=OWN, parent_id="", began_ns=1, ended_ns=3))
    assert exporter.get_finished_spans() == ()
    assert not trace.get_current_span().get_span_context().is_valid


async def test_a_collector_that_is_away_holds_nobody_up() -> None:
    gave_up = threading.Event()

    class Away(InMemorySpanExporter):
        def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
            assert gave_up.wait(20)
            return SpanExportResult.FAILURE

    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(Away()))
    spans = Spans(provider, stop=gave_up.set, last_seconds=0.2)
    spans.tell(SpanFact(name="run", context=OWN, parent_id="", began_ns=1, ended_ns=3))
    began = time.monotonic()
    await spans.aclose()
    assert time.monotonic() - began < 10
    assert gave_up.is_set()
