"""An OTLP/HTTP receiver: takes what a real exporter sends, and keeps the spans."""

import gzip
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from tests.fakes.http import Connection, HttpServer, Request


@dataclass(frozen=True)
class ReceivedSpan:
    name: str
    trace_id: str
    span_id: str
    parent_id: str
    kind: int
    began_ns: int
    ended_ns: int
    attributes: Mapping[str, Any]
    error: str
    """The message of the status; empty where that isn't an error."""
    resource: Mapping[str, Any] = field(repr=False)


class OtlpReceiver(HttpServer):
    """Collects spans.

    Attributes:
        spans: In the order in which they came.
        bodies: Each request as it was sent, unpacked.
    """

    def __init__(self) -> None:
        super().__init__(self._take)
        self.spans: list[ReceivedSpan] = []
        self.bodies: list[bytes] = []

    @property
    def env(self) -> dict[str, str]:
        return {"OTEL_EXPORTER_OTLP_ENDPOINT": self.url, "OTEL_METRICS_EXPORTER": "none"}

    async def _take(self, request: Request, connection: Connection) -> None:
        is_packed = request.headers.get("content-encoding") == "gzip"
        body = gzip.decompress(request.body) if is_packed else request.body
        self.bodies.append(body)
        if request.path == "/v1/traces":
            self.spans += _spans(ExportTraceServiceRequest.FromString(body))
        answer = ExportTraceServiceResponse().SerializeToString()
        await connection.answer(200, answer, content_type="application/x-protobuf")


def _spans(request: ExportTraceServiceRequest) -> list[ReceivedSpan]:
    return [
        ReceivedSpan(
            name=span.name,
            trace_id=span.trace_id.hex(),
            span_id=span.span_id.hex(),
            parent_id=span.parent_span_id.hex(),
            kind=span.kind,
            began_ns=span.start_time_unix_nano,
            ended_ns=span.end_time_unix_nano,
            attributes=_values(span.attributes),
            error=span.status.message if span.status.code == 2 else "",
            resource=_values(of_resource.resource.attributes),
        )
        for of_resource in request.resource_spans
        for scope in of_resource.scope_spans
        for span in scope.spans
    ]


def _values(pairs: Any) -> dict[str, Any]:
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return tuple(_value(each) for each in value.array_value.values)
    return getattr(value, kind)
