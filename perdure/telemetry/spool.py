"""Spans that are over and not sent yet, in a file: when a worker is killed, the next one sends them. Wiring side.

The file is a log, with a line for each span and one for each batch that was handed over, and locked for as long as
its worker lives. What a process has written stays when it is killed; a lost disk takes it along.
"""

import json
import logging
import os
import sys
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Lock
from typing import IO, Any, Final

from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan, Span, SpanProcessor
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags

_log = logging.getLogger(__name__)

_MAX_BYTES: Final = 4_000_000
"""The file is written anew beyond this."""
_MAX_SPANS: Final = 10_000
"""More than wait to be sent: the oldest were dropped."""


class SpooledSpans(SpanProcessor):
    """Sends spans in batches, and keeps each from its end until it is sent."""

    def __init__(self, folder: Path, sink: SpanExporter, **options: Any) -> None:
        """Send by `sink`, with options of a `BatchSpanProcessor`; `folder` is made for the first span."""
        self._next = BatchSpanProcessor(_Handing(sink, self), **options)
        self._folder = folder
        self._file: IO[bytes] | None = None
        self._is_broken = sys.platform == "win32"  # whose locks are others
        self._lock = Lock()
        self._waiting: dict[str, bytes] = {}
        self._size = 0
        self._path = folder

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Do nothing: a span that is not over is told by the next attempt."""

    def on_end(self, span: ReadableSpan) -> None:
        """Write a span down, and have it sent with others."""
        if span.context is not None and span.context.trace_flags.sampled:
            self._keep(span, _hex(span.context.span_id))
            self._next.on_end(span)

    def _keep(self, span: ReadableSpan, id: str) -> None:
        line = json.dumps(_to_json(span), default=str).encode() + b"\n"
        with self._lock:
            self._waiting[id] = line
            if len(self._waiting) > _MAX_SPANS:
                del self._waiting[next(iter(self._waiting))]
            self._write(line)

    def handed_over(self, spans: Sequence[ReadableSpan]) -> None:
        """Note spans that are the exporter's now, whatever becomes of them."""
        ids = [_hex(span.context.span_id) for span in spans if span.context is not None]
        with self._lock:
            for id in ids:
                self._waiting.pop(id, None)
            self._write(json.dumps({"sent": ids}).encode() + b"\n")
            if not self._waiting or self._size > _MAX_BYTES:
                self._write_anew()

    def resend(self, is_new: Callable[[str], bool]) -> None:
        """Send what workers have left that are gone, and whose ids are new."""
        if self._is_broken:
            return
        for path in sorted(self._folder.glob("*.jsonl")):
            with suppress(OSError), path.open("r+b") as file, _locked(file) as is_left:
                if is_left:
                    for id, span in _read(file).items():
                        if is_new(id):
                            self.on_end(span)
                    path.unlink()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Send what is kept."""
        return self._next.force_flush(timeout_millis)

    def shutdown(self) -> None:
        """Send what is kept, and remove the file: everything was handed over, or given up."""
        self._next.shutdown()
        with self._lock:
            self._is_broken = True
            if self._file is not None:
                with suppress(OSError):
                    self._path.unlink()
                self._file.close()

    def _write(self, line: bytes) -> None:
        if self._is_broken:
            return
        try:
            file = self._file = self._file or self._open()
            file.write(line)
            self._size += len(line)
        except OSError as error:
            self._is_broken = True
            _log.warning("No spans are kept in %s, for a worker that is killed: %s", self._folder, error)

    def _write_anew(self) -> None:
        if self._file is not None and not self._is_broken:
            self._file.seek(0)
            self._file.truncate()
            self._size = 0
            self._write(b"".join(self._waiting.values()))

    def _open(self) -> IO[bytes]:
        import fcntl

        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / f"{os.getpid()}-{os.urandom(4).hex()}.jsonl"
        new = path.with_suffix(".new")  # nobody may find it before it is locked
        handle = os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self._path = new.rename(path)
        return os.fdopen(handle, "wb", buffering=0)


class _Handing(SpanExporter):
    """An exporter that says what was handed to it."""

    def __init__(self, sink: SpanExporter, spool: SpooledSpans) -> None:
        """Send by `sink`."""
        self._sink = sink
        self._spool = spool

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send spans; those that can't be sent are lost, as without the file."""
        try:
            return self._sink.export(spans)
        finally:
            self._spool.handed_over(spans)

    def shutdown(self) -> None:
        """Give up what can't be sent."""
        self._sink.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Send what the exporter itself holds back."""
        return self._sink.force_flush(timeout_millis)


@contextmanager
def _locked(file: IO[bytes]) -> Generator[bool]:
    """Take the lock of a worker's file, and say whether it could be had: the worker is gone then."""
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        yield False
    else:
        yield True


def _read(file: IO[bytes]) -> dict[str, ReadableSpan]:
    found: dict[str, ReadableSpan] = {}
    for line in file:
        with suppress(ValueError, KeyError, TypeError):  # the last line may be cut
            given = json.loads(line)
            if "sent" in given:
                for id in given["sent"]:
                    found.pop(id, None)
            else:
                found[given["span"]] = _from_json(given)
    return found


def _to_json(span: ReadableSpan) -> dict[str, Any]:
    context, scope = span.context, span.instrumentation_scope
    assert context is not None, "a span that was started has one"
    return {
        "name": span.name,
        "trace": f"{context.trace_id:032x}",
        "span": _hex(context.span_id),
        "parent": "" if span.parent is None else _hex(span.parent.span_id),
        "kind": span.kind.name,
        "began": span.start_time,
        "ended": span.end_time,
        "status": [span.status.status_code.name, span.status.description],
        "attributes": dict(span.attributes or {}),
        "events": [[each.name, dict(each.attributes or {}), each.timestamp] for each in span.events],
        "links": [
            [f"{each.context.trace_id:032x}", _hex(each.context.span_id), dict(each.attributes or {})]
            for each in span.links
        ],
        "resource": dict(span.resource.attributes),
        "scope": None if scope is None else [scope.name, scope.version],
    }


def _from_json(given: dict[str, Any]) -> ReadableSpan:
    code, description = given["status"]
    return ReadableSpan(
        name=given["name"],
        context=_context(given["trace"], given["span"]),
        parent=_context(given["trace"], given["parent"]) if given["parent"] else None,
        kind=SpanKind[given["kind"]],
        start_time=given["began"],
        end_time=given["ended"],
        status=Status(StatusCode[code], description),
        attributes=given["attributes"],
        events=[Event(name, attributes, at) for name, attributes, at in given["events"]],
        links=[Link(_context(trace, span), attributes) for trace, span, attributes in given["links"]],
        resource=Resource(given["resource"]),
        instrumentation_scope=None if given["scope"] is None else InstrumentationScope(*given["scope"]),
    )


def _context(trace_id: str, span_id: str) -> SpanContext:
    flags = TraceFlags(TraceFlags.SAMPLED)
    return SpanContext(int(trace_id, 16), int(span_id, 16), is_remote=False, trace_flags=flags)


def _hex(span_id: int) -> str:
    return f"{span_id:016x}"
