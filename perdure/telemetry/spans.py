"""Spans with ids of ours, by the OpenTelemetry SDK. Activity and wiring side; imported where traces are sent."""

import asyncio
import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Final

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.trace import NonRecordingSpan, Span, SpanContext, SpanKind, Status, StatusCode, TraceFlags

import perdure
from perdure.contracts.span_names import ERROR
from perdure.contracts.tracing import AttributeValue, SpanFact, TraceContext
from perdure.telemetry.spool import SpooledSpans

_log = logging.getLogger(__name__)

_REMEMBERED: Final = 20_000
_LAST_SECONDS: Final = 5.0
_NEXT: ContextVar[TraceContext | None] = ContextVar("perdure_next_span", default=None)


class DerivedIds(IdGenerator):
    """Gives a span the ids that were chosen for it, and any other what another generator gives."""

    def __init__(self, others: IdGenerator) -> None:
        """Leave spans that aren't ours to `others`."""
        self._others = others

    def generate_span_id(self) -> int:
        """Return the id of the next span."""
        chosen = _NEXT.get()
        return self._others.generate_span_id() if chosen is None else int(chosen.span_id, 16)

    def generate_trace_id(self) -> int:
        """Return the id of the next trace."""
        chosen = _NEXT.get()
        return self._others.generate_trace_id() if chosen is None else int(chosen.trace_id, 16)

    def is_trace_id_random(self) -> bool:
        """Say whether samplers may take the id for random bits: those of a hash are as good."""
        return _NEXT.get() is not None or self._others.is_trace_id_random()


class Spans:
    """Starts and ends spans; each of them leaves this process once."""

    def __init__(
        self,
        provider: TracerProvider,
        *,
        stop: Callable[[], object] | None = None,
        spool: SpooledSpans | None = None,
        last_seconds: float = _LAST_SECONDS,
    ) -> None:
        """Send them by a provider.

        Args:
            provider: Its other spans keep their random ids.
            stop: Makes its exporter give up what it can't send; None where the provider isn't ours to shut down.
            spool: Keeps those that are not sent yet; None where nobody does.
            last_seconds: How long the last spans may take.
        """
        provider.id_generator = DerivedIds(provider.id_generator)
        self._provider = provider
        self._stop = stop
        self._spool = spool
        self._last_seconds = last_seconds
        self._tracer = provider.get_tracer("perdure", perdure.__version__)
        self._told: OrderedDict[str, None] = OrderedDict()
        self._loop: asyncio.AbstractEventLoop | None = None

    def attach(self) -> None:
        """Take facts from other threads into the event loop that runs, and send what killed workers have left."""
        self._loop = asyncio.get_running_loop()
        if self._spool is not None:
            self._spool.resend(self._is_new)

    def is_sampled(self, trace_id: str) -> bool:
        """Say whether a trace that begins here is kept."""
        return self._provider.sampler.should_sample(None, int(trace_id, 16), "").decision.is_sampled()

    def start(
        self,
        name: str,
        own: TraceContext,
        parent_id: str,
        *,
        began_ns: int,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Mapping[str, AttributeValue] | None = None,
    ) -> Span:
        """Start a span with ids of ours; nobody is told until it is ended."""
        parent = otel_context.Context()
        if parent_id:
            flags = TraceFlags(TraceFlags.SAMPLED if own.is_sampled else TraceFlags.DEFAULT)
            above = SpanContext(int(own.trace_id, 16), int(parent_id, 16), is_remote=True, trace_flags=flags)
            parent = trace.set_span_in_context(NonRecordingSpan(above), parent)
        token = _NEXT.set(own)
        try:
            return self._tracer.start_span(name, parent, kind, attributes, start_time=began_ns)
        finally:
            _NEXT.reset(token)

    def end(self, span: Span, *, error: str = "", ended_ns: int | None = None) -> None:
        """End a span, unless one of its id was ended before: then it is dropped."""
        if not self._is_new(format(span.get_span_context().span_id, "016x")):
            return
        if error:
            span.set_attribute(ERROR, error)
            span.set_status(Status(StatusCode.ERROR, error))
        span.end(ended_ns)

    def tell(self, fact: SpanFact) -> None:
        """Send a span that is over."""
        span = self.start(
            fact.name, fact.context, fact.parent_id, began_ns=fact.began_ns, attributes=fact.attributes
        )
        self.end(span, error=fact.error, ended_ns=fact.ended_ns)

    def tell_soon(self, fact: SpanFact) -> None:
        """Send a span that is over, from any thread; it never waits."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self.tell, fact)

    async def aclose(self) -> None:
        """Send the rest; a collector that is away holds nobody up for more than five seconds."""
        await asyncio.sleep(0)  # facts that other threads have handed over
        if not await _within(self._last_seconds, self._provider.force_flush):
            _log.warning("Spans that the collector did not take within %g s are lost", self._last_seconds)
        if self._stop is not None:
            self._stop()
            await _within(self._last_seconds, self._provider.shutdown)

    def _is_new(self, span_id: str) -> bool:
        if span_id in self._told:
            return False
        self._told[span_id] = None
        if len(self._told) > _REMEMBERED:
            self._told.popitem(last=False)
        return True


async def _within(seconds: float, work: Callable[[], object]) -> bool:
    """Do blocking work, and say whether it was done in time; what isn't dies with the process."""
    loop, done = asyncio.get_running_loop(), asyncio.Event()

    def run() -> None:
        work()
        with suppress(RuntimeError):  # nobody waits any more
            loop.call_soon_threadsafe(done.set)

    threading.Thread(target=run, name="perdure-last-spans", daemon=True).start()
    try:
        async with asyncio.timeout(seconds):
            await done.wait()
    except TimeoutError:
        return False
    return True


@contextmanager
def current(span: Span) -> Generator[None]:
    """Make a span the parent of those that the caller's code starts."""
    token = otel_context.attach(trace.set_span_in_context(span))
    try:
        yield
    finally:
        otel_context.detach(token)
