"""OpenTelemetry's variables: what they switch on, and mistakes in them."""

import subprocess
import sys
from datetime import timedelta
from typing import Any

import pytest
from temporalio.runtime import OpenTelemetryConfig, PrometheusConfig

from perdure._production import Address
from perdure.errors import SettingsError
from perdure.telemetry.environment import metrics_config, otlp_protocol, traces_exporter

ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, "none"),
        (ENDPOINT, "otlp"),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c"}, "otlp"),
        ({"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://c"}, "none"),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, "otlp"),
        ({"OTEL_TRACES_EXPORTER": "console"}, "console"),
        ({**ENDPOINT, "OTEL_TRACES_EXPORTER": "none"}, "none"),
        ({**ENDPOINT, "OTEL_SDK_DISABLED": "TRUE"}, "none"),
    ],
)
def test_where_traces_go(environ: dict[str, str], expected: str) -> None:
    assert traces_exporter(environ) == expected


def test_mistakes_are_told() -> None:
    with pytest.raises(SettingsError, match="OTEL_TRACES_EXPORTER: 'zipkin' is not one of otlp, console, none"):
        traces_exporter({"OTEL_TRACES_EXPORTER": "zipkin"})
    with pytest.raises(SettingsError, match="OTEL_EXPORTER_OTLP_PROTOCOL: 'http/json' is not one of"):
        otlp_protocol({"OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"}, "TRACES")


def test_metrics_by_otlp() -> None:
    environ = {
        **ENDPOINT,
        "OTEL_EXPORTER_OTLP_HEADERS": "x-team=a%20b, y=1",
        "OTEL_METRIC_EXPORT_INTERVAL": "5000",
    }
    config = metrics_config(environ, None)
    assert isinstance(config, OpenTelemetryConfig)
    assert (config.url, config.http) == ("http://collector:4318/v1/metrics", True)
    assert config.headers == {"x-team": "a b", "y": "1"}
    assert config.metric_periodicity == timedelta(seconds=5)


def test_metrics_by_grpc_and_to_an_address_of_their_own() -> None:
    config: Any = metrics_config({**ENDPOINT, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, None)
    assert (config.url, config.http) == ("http://collector:4318", False)
    config = metrics_config({"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://m/x"}, None)
    assert config.url == "http://m/x"


def test_prometheus_goes_before_otlp() -> None:
    config = metrics_config(ENDPOINT, Address("127.0.0.1", 9464))
    assert isinstance(config, PrometheusConfig)
    assert config.bind_address == "127.0.0.1:9464"
    assert metrics_config({**ENDPOINT, "OTEL_METRICS_EXPORTER": "none"}, None) is None


def test_metrics_mistakes() -> None:
    with pytest.raises(SettingsError, match="set metrics_address for Prometheus"):
        metrics_config({"OTEL_METRICS_EXPORTER": "prometheus"}, None)
    with pytest.raises(SettingsError, match="OTEL_METRIC_EXPORT_INTERVAL should be a number"):
        metrics_config({**ENDPOINT, "OTEL_METRIC_EXPORT_INTERVAL": "soon"}, None)


def _python(code: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environ, check=False)


def test_without_a_variable_the_sdk_is_not_imported() -> None:
    code = (
        "import sys; from perdure import App; from perdure.wiring import make_parts;"
        "from perdure.settings import Settings; parts = make_parts(App(), Settings());"
        "print(parts.telemetry.is_on, [name for name in sys.modules if name.startswith('opentelemetry')])"
    )
    assert _python(code).stdout.split("\n")[0] == "False []"


def test_a_missing_exporter_is_told_with_the_remedy() -> None:
    code = (
        "import sys; sys.modules['opentelemetry.exporter.otlp.proto.http.trace_exporter'] = None;"
        "from perdure.telemetry.setup import make_telemetry; import os;"
        "make_telemetry(os.environ, has_content=False, redact=str)"
    )
    told = _python(code, **ENDPOINT).stderr
    assert "OTEL_EXPORTER_OTLP_ENDPOINT says that traces are sent by OTLP" in told
    assert "pip install 'perdure[otlp]'" in told
