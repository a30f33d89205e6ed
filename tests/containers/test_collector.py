"""The OpenTelemetry collector's configuration, by the rules that its documents and its source state.

No package brings the collector itself. What is known here of a component is what we use of it: whoever uses more
looks it up in the component's README, and adds it.
"""

from collections.abc import Callable
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from tests.containers.files import compose_services, load

Address = Annotated[str, Field(pattern=r"^[\w.-]+:\d{1,5}$")]
Duration = Annotated[str, Field(pattern=r"^[1-9]\d*(ms|s|m|h)$")]
Names = Annotated[list[str], Field(min_length=1)]


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Listening(Strict):
    endpoint: Address


class Protocols(Strict):
    http: Listening | None = None
    grpc: Listening | None = None


class OtlpReceiver(Strict):
    protocols: Protocols


class MemoryLimiter(Strict):
    check_interval: Duration
    limit_mib: int = Field(gt=0)


class Batch(Strict):
    timeout: Duration


class Tls(Strict):
    insecure: bool


class OtlpExporter(Strict):
    endpoint: Address
    tls: Tls


class Pipeline(Strict):
    receivers: Names
    processors: list[str] = []
    exporters: Names


class Service(Strict):
    extensions: list[str] = []
    telemetry: dict[Literal["metrics"], dict[Literal["readers"], list[dict[str, Any]]]]
    pipelines: dict[str, Pipeline] = Field(min_length=1)


class Collector(Strict):
    extensions: dict[str, Any] = {}
    receivers: dict[str, Any] = Field(min_length=1)
    processors: dict[str, Any] = {}
    exporters: dict[str, Any] = Field(min_length=1)
    service: Service


KNOWN: dict[str, dict[str, type[Strict]]] = {
    "extensions": {"health_check": Listening},
    "receivers": {"otlp": OtlpReceiver},
    "processors": {"memory_limiter": MemoryLimiter, "batch": Batch},
    "exporters": {"otlp": OtlpExporter},
}
SIGNALS = ("traces", "metrics", "logs")


def check(config: Any) -> Collector:
    """Return the configuration, or raise what the collector would refuse, or leave out without a word."""
    read = Collector.model_validate(config)
    for kind, types in KNOWN.items():
        for name, settings in getattr(read, kind).items():
            TypeAdapter(types[name.partition("/")[0]]).validate_python(settings)
    for name, pipeline in read.service.pipelines.items():
        assert name.partition("/")[0] in SIGNALS, f"{name} is no signal"
        assert len(set(pipeline.processors)) == len(pipeline.processors), "a processor is named twice"
        assert pipeline.processors[:1] == ["memory_limiter"], "its README wants it before all others"
    for kind in KNOWN:
        used = set(read.service.extensions)
        if kind != "extensions":
            used = {name for each in read.service.pipelines.values() for name in getattr(each, kind)}
        assert used == set(getattr(read, kind)), f"{kind}: what is named, and what is defined"
    return read


def test_it_is_one_that_the_collector_takes() -> None:
    assert set(check(load("otel/collector.yaml")).service.pipelines) == {"traces"}


def _drop(kind: str, name: str) -> Callable[[Any], object]:
    return lambda config: config[kind].pop(name)


def _set(kind: str, name: str, **settings: Any) -> Callable[[Any], object]:
    return lambda config: config[kind].setdefault(name, {}).update(settings)


def _pipeline(**parts: list[str]) -> Callable[[Any], object]:
    return lambda config: config["service"]["pipelines"]["traces"].update(parts)


@pytest.mark.parametrize(
    "breaking",
    [
        _drop("receivers", "otlp"),
        _drop("processors", "batch"),
        _drop("exporters", "otlp/jaeger"),
        _drop("extensions", "health_check"),
        _set("exporters", "otlp/other", endpoint="tempo:4317", tls={"insecure": True}),
        _set("exporters", "otlp/jaeger", url="http://jaeger:4317"),
        _set("exporters", "otlp/jaeger", endpoint="jaeger"),
        _set("processors", "memory_limiter", check_interval="0s"),
        _pipeline(receivers=[]),
        _pipeline(exporters=["jaeger"]),
        _pipeline(processors=["batch", "memory_limiter"]),
        _pipeline(processors=["memory_limiter", "batch", "batch"]),
    ],
)
def test_one_that_it_would_refuse_is_refused(breaking: Callable[[Any], object]) -> None:
    config = load("otel/collector.yaml")
    breaking(config)
    with pytest.raises((ValidationError, AssertionError)):
        check(config)


def test_it_fits_to_what_is_around_it() -> None:
    config, services = check(load("otel/collector.yaml")), compose_services()
    otlp = OtlpReceiver.model_validate(config.receivers["otlp"])
    sent = services["worker"]["environment"]["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"]
    assert otlp.protocols.http is not None
    assert sent == f"http://otel-collector:{otlp.protocols.http.endpoint.rpartition(':')[2]}/v1/traces"
    for exporter in config.exporters.values():
        assert exporter["endpoint"].partition(":")[0] in services
    reader = config.service.telemetry["metrics"]["readers"][0]["pull"]["exporter"]["prometheus"]
    jobs = {job["job_name"]: job for job in load("prometheus/prometheus.yml")["scrape_configs"]}
    assert jobs["otel-collector"]["static_configs"][0]["targets"] == [f"otel-collector:{reader['port']}"]
    assert reader["host"] == "0.0.0.0"
    (mounted,) = services["otel-collector"]["volumes"]
    assert mounted.split(":")[:2] == ["./otel/collector.yaml", "/etc/otelcol/config.yaml"]
    assert services["otel-collector"]["command"] == ["--config=/etc/otelcol/config.yaml"]
