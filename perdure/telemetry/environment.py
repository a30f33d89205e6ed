"""What OpenTelemetry's own variables say. Wiring side; it imports no SDK.

https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/ has the variables. The SDK reads
most of them itself; here is what decides whether it is there at all.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Literal
from urllib.parse import unquote

from temporalio.runtime import OpenTelemetryConfig, PrometheusConfig

from perdure.errors import SettingsError

Exporter = Literal["otlp", "console", "none"]

_PROTOCOLS = ("http/protobuf", "grpc")
_BUCKETS = {
    "gen_ai.client.token.usage": [float(4**power) for power in range(14)],
    "gen_ai.client.operation.duration": [0.01 * 2**power for power in range(14)],
    "perdure_cost": [10.0**power for power in range(-6, 3)],
}
"""Those that the conventions advise; of the cost, powers of ten."""
_DEFAULT_INTERVAL_MILLISECONDS = 15_000


def traces_exporter(environ: Mapping[str, str]) -> Exporter:
    """Return where traces go; `none` unless a variable asks for it.

    Raises:
        SettingsError: A variable can't be used. Not retryable.
    """
    return _exporter(environ, "TRACES")


def metrics_config(environ: Mapping[str, str], address: object) -> OpenTelemetryConfig | PrometheusConfig | None:
    """Return where metrics go: to Prometheus at `address`, else where the variables say; None for nowhere.

    Raises:
        SettingsError: A variable can't be used. Not retryable.
    """
    if address is not None:
        return PrometheusConfig(
            bind_address=str(address),
            counters_total_suffix=True,
            durations_as_seconds=True,
            histogram_bucket_overrides={name.replace(".", "_"): bounds for name, bounds in _BUCKETS.items()},
        )
    if _exporter(environ, "METRICS") != "otlp":
        return None
    return OpenTelemetryConfig(
        url=_url(environ),
        headers=_headers(environ) or None,
        metric_periodicity=timedelta(milliseconds=_interval(environ)),
        durations_as_seconds=True,
        http=otlp_protocol(environ, "METRICS") == "http/protobuf",
        histogram_bucket_overrides=_BUCKETS,
    )


def otlp_protocol(environ: Mapping[str, str], signal: str) -> str:
    """Return how the collector is spoken to.

    Raises:
        SettingsError: It is a protocol that there is no exporter for. Not retryable.
    """
    specific, general = f"OTEL_EXPORTER_OTLP_{signal}_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"
    protocol = environ.get(specific) or environ.get(general) or "http/protobuf"
    if protocol not in _PROTOCOLS:
        name = specific if environ.get(specific) else general
        raise SettingsError(f"{name}: {protocol!r} is not one of {', '.join(_PROTOCOLS)}.", key=name)
    return protocol


def _exporter(environ: Mapping[str, str], signal: str) -> Exporter:
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return "none"
    name = f"OTEL_{signal}_EXPORTER"
    chosen = environ.get(name, "").strip()
    if chosen in ("otlp", "none") or (chosen == "console" and signal == "TRACES"):
        return chosen  # pyright: ignore[reportReturnType] - narrowed by hand
    if chosen:
        known = "otlp, console, none" if signal == "TRACES" else "otlp, none"
        remedy = "; set metrics_address for Prometheus" if chosen == "prometheus" else ""
        raise SettingsError(f"{name}: {chosen!r} is not one of {known}{remedy}.", key=name)
    endpoints = ("OTEL_EXPORTER_OTLP_ENDPOINT", f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT")
    return "otlp" if any(environ.get(each) for each in endpoints) else "none"


def _url(environ: Mapping[str, str]) -> str:
    specific = environ.get("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT")
    if specific:
        return specific
    is_grpc = otlp_protocol(environ, "METRICS") == "grpc"
    base = environ.get("OTEL_EXPORTER_OTLP_ENDPOINT") or f"http://localhost:{4317 if is_grpc else 4318}"
    return base if is_grpc else f"{base.rstrip('/')}/v1/metrics"


def _headers(environ: Mapping[str, str]) -> dict[str, str]:
    name = "OTEL_EXPORTER_OTLP_METRICS_HEADERS"
    text = environ.get(name) or environ.get("OTEL_EXPORTER_OTLP_HEADERS") or ""
    pairs = (pair.partition("=") for pair in text.split(",") if "=" in pair)
    return {key.strip(): unquote(value.strip()) for key, _, value in pairs}


def _interval(environ: Mapping[str, str]) -> int:
    text = environ.get("OTEL_METRIC_EXPORT_INTERVAL", "")
    if text and not (text.isdecimal() and int(text) > 0):
        raise SettingsError("OTEL_METRIC_EXPORT_INTERVAL should be a number of milliseconds.")
    return int(text) if text else _DEFAULT_INTERVAL_MILLISECONDS
