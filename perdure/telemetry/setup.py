"""Switches tracing and counting on, where the environment asks for it. Wiring side."""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from temporalio.common import MetricMeter
from temporalio.runtime import OpenTelemetryConfig

from perdure.errors import SettingsError
from perdure.telemetry.environment import metrics_config, otlp_protocol, traces_exporter
from perdure.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

    from perdure.telemetry.spans import Spans

_DELAY_MILLISECONDS = 500
"""How long a span waits for others to go with it: what a killed worker had not sent is lost with its disk."""
_QUEUE_SIZE = 8192


@dataclass
class Telemetry:
    """What a worker tells of its work.

    Attributes:
        spans: None where nothing is traced.
        metrics: None where nothing is counted.
        has_content: Whether spans have messages, arguments and results.
        redact: Takes the secrets out of a text.
        is_dotted: Whether metrics go where names may have dots.
    """

    spans: "Spans | None"
    metrics: Metrics | None
    has_content: bool
    redact: Callable[[str], str]
    is_dotted: bool = False

    @property
    def is_on(self) -> bool:
        """Whether anything is told."""
        return self.spans is not None or self.metrics is not None

    def count_with(self, meter: MetricMeter) -> None:
        """Count by the meter of a Temporal runtime, if it sends metrics anywhere."""
        if meter is not MetricMeter.noop:
            self.metrics = Metrics(meter, is_dotted=self.is_dotted)


def make_telemetry(
    environ: Mapping[str, str],
    *,
    has_content: bool,
    redact: Callable[[str], str],
    metrics_address: object = None,
    spool: Path | None = None,
) -> Telemetry:
    """Return what the environment asks for; its meter comes with the client.

    Args:
        environ: The environment.
        has_content: Whether spans have messages, arguments and results.
        redact: Takes the secrets out of a text.
        metrics_address: Where metrics are scraped.
        spool: The folder for spans that are not sent yet; None to lose those of a worker that is killed.

    Raises:
        SettingsError: A variable can't be used, or the extra `otlp` is missing. Not retryable.
    """
    is_dotted = isinstance(metrics_config(environ, metrics_address), OpenTelemetryConfig)
    return Telemetry(_make_spans(environ, spool), None, has_content, redact, is_dotted)


def _make_spans(environ: Mapping[str, str], folder: Path | None) -> "Spans | None":
    if (provider := _users_provider()) is not None:
        from perdure.telemetry.spans import Spans

        return Spans(provider)
    exporter = traces_exporter(environ)
    if exporter == "none":
        return None
    from perdure.telemetry.spans import Spans

    sink = _make_exporter(environ, exporter)
    options = _batch_options(environ)
    if folder is None or exporter == "console":
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        return Spans(_make_provider(BatchSpanProcessor(sink, **options)), stop=sink.shutdown)
    from perdure.telemetry.spool import SpooledSpans

    spool = SpooledSpans(folder, sink, **options)
    return Spans(_make_provider(spool), stop=sink.shutdown, spool=spool)


def _batch_options(environ: Mapping[str, str]) -> dict[str, Any]:
    """Return ours where the environment has none."""
    ours = {
        "OTEL_BSP_SCHEDULE_DELAY": ("schedule_delay_millis", _DELAY_MILLISECONDS),
        "OTEL_BSP_MAX_QUEUE_SIZE": ("max_queue_size", _QUEUE_SIZE),
    }
    return dict(option for name, option in ours.items() if not environ.get(name))


def _users_provider() -> "TracerProvider | None":
    """Return the provider that the user's code has set up for the process, if it has."""
    if "opentelemetry.sdk.trace" not in sys.modules:
        return None
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider

    provider = trace.get_tracer_provider()
    return provider if isinstance(provider, TracerProvider) else None


def _make_provider(processor: Any) -> "TracerProvider":
    """Return the provider of this process."""
    from opentelemetry import trace
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider

    import perdure

    resource = Resource.create({"service.version": perdure.__version__})
    if resource.attributes.get("service.name", "").startswith("unknown_service"):  # pyright: ignore
        resource = resource.merge(Resource({"service.name": "perdure"}))
    provider = TracerProvider(resource=resource)
    provider.add_span_processor(processor)
    trace.set_tracer_provider(provider)  # so that what tools trace themselves is below their calls
    return provider


def _make_exporter(environ: Mapping[str, str], exporter: str) -> Any:
    if exporter == "console":
        from opentelemetry.sdk.trace.export import ConsoleSpanExporter

        return ConsoleSpanExporter(out=sys.stderr)
    protocol = otlp_protocol(environ, "TRACES")
    package = "grpc" if protocol == "grpc" else "http"
    try:
        module = import_module(f"opentelemetry.exporter.otlp.proto.{package}.trace_exporter")
    except ImportError:
        raise _missing(environ, protocol) from None
    return module.OTLPSpanExporter()


def _missing(environ: Mapping[str, str], protocol: str) -> SettingsError:
    if protocol == "grpc":
        return SettingsError(
            "OTEL_EXPORTER_OTLP_PROTOCOL=grpc needs the package opentelemetry-exporter-otlp-proto-grpc: install "
            "it, or set http/protobuf."
        )
    asking = ("OTEL_TRACES_EXPORTER", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
    name = next(name for name in asking if environ.get(name))
    return SettingsError(
        f"{name} says that traces are sent by OTLP, and the exporter is not installed: pip install "
        "'perdure[otlp]', or set OTEL_TRACES_EXPORTER=none."
    )
