"""Spans that a killed worker had not sent: another finds them, each once."""

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.trace import Link, SpanKind, Status, StatusCode

from perdure.telemetry.spool import SpooledSpans

NEVER = 3_600_000


class Sink(SpanExporter):
    """Takes spans."""

    def __init__(self) -> None:
        self.spans: list[ReadableSpan] = []

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.spans.extend(spans)
        return SpanExportResult.SUCCESS


class Worker:
    """A worker's spans; it sends them when it is told to."""

    def __init__(self, folder: Path) -> None:
        self.sink = Sink()
        self.spool = SpooledSpans(folder, self.sink, schedule_delay_millis=NEVER)
        self.provider = TracerProvider(resource=Resource({"service.name": "perdure", "cpus": 2}))
        self.provider.add_span_processor(self.spool)
        self.tracer = self.provider.get_tracer("perdure", "1.0")

    def work(self, *names: str) -> None:
        for name in names:
            self.tracer.start_span(name).end()

    def kill(self) -> None:
        """Be gone without a word: the kernel gives the lock back, and nothing is written any more."""
        spool: Any = self.spool
        spool._file.close()
        spool._is_broken = True

    def names(self) -> list[str]:
        self.provider.force_flush()
        return [span.name for span in self.sink.spans]


def is_new(_: str) -> bool:
    return True


def test_the_next_worker_sends_what_a_killed_one_had_not(tmp_path: Path) -> None:
    killed = Worker(tmp_path)
    killed.work("a", "b")
    assert killed.names() == ["a", "b"]
    killed.work("c", "d")
    killed.kill()
    following = Worker(tmp_path)
    following.spool.resend(is_new)
    assert following.names() == ["c", "d"]
    last = Worker(tmp_path)
    last.spool.resend(is_new)
    assert last.names() == []


def test_a_worker_at_work_is_left_alone(tmp_path: Path) -> None:
    working, other = Worker(tmp_path), Worker(tmp_path)
    working.work("a")
    other.spool.resend(is_new)
    assert other.names() == []
    assert working.names() == ["a"]


def test_what_was_told_otherwise_is_not_sent_again(tmp_path: Path) -> None:
    killed = Worker(tmp_path)
    killed.work("a", "b")
    killed.kill()
    following = Worker(tmp_path)
    told = iter([False, True])
    following.spool.resend(lambda _: next(told))
    assert following.names() == ["b"]


def test_a_span_comes_back_as_it_was(tmp_path: Path) -> None:
    killed = Worker(tmp_path)
    with killed.tracer.start_as_current_span("parent") as above:
        link = Link(above.get_span_context(), {"why": "because"})
        span = killed.tracer.start_span("child", kind=SpanKind.CLIENT, links=[link], attributes={"n": 1, "x": 1.0})
        span.set_attribute("names", ["a", "b"])
        span.set_status(Status(StatusCode.ERROR, "broken"))
        span.add_event("seen", {"is_it": True}, timestamp=5)
        span.end()
    killed.kill()
    following = Worker(tmp_path)
    following.spool.resend(is_new)
    assert following.names() == ["child", "parent"]
    assert killed.names() == ["child", "parent"]
    for was, now in zip(killed.sink.spans, following.sink.spans, strict=True):
        assert json.loads(now.to_json()) == json.loads(was.to_json())
        assert now.resource.attributes == was.resource.attributes
        assert now.instrumentation_scope == was.instrumentation_scope


def test_a_line_that_was_cut_costs_itself_alone(tmp_path: Path) -> None:
    killed = Worker(tmp_path)
    killed.work("a", "b")
    killed.kill()
    (path,) = tmp_path.glob("*.jsonl")
    path.write_bytes(path.read_bytes()[:-20])
    following = Worker(tmp_path)
    following.spool.resend(is_new)
    assert following.names() == ["a"]


def test_the_file_stays_small_and_goes_with_its_worker(tmp_path: Path) -> None:
    worker = Worker(tmp_path)
    for number in range(50):
        worker.work(f"span {number}")
        worker.provider.force_flush()
    (path,) = tmp_path.glob("*.jsonl")
    assert path.stat().st_size == 0
    assert path.stat().st_mode & 0o777 == 0o600
    worker.work("last")
    worker.provider.shutdown()
    assert worker.sink.spans[-1].name == "last"
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("in the way")
    worker = Worker(tmp_path / "file")
    with caplog.at_level(logging.WARNING):
        worker.work("a", "b")
    assert caplog.text.count("for a worker that is killed") == 1
    assert worker.names() == ["a", "b"]
