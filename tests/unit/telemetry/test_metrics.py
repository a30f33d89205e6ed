"""What a worker knows of its providers and its runs is shown as metrics: names, labels and values."""

from collections.abc import Callable

from temporalio.runtime import MetricBuffer, Runtime, TelemetryConfig

from perdure.contracts.workers import ProviderLimit, ProviderState
from perdure.providers._gate import Gates
from perdure.telemetry.metrics import Metrics


def shown(show: Callable[[Metrics], None]) -> dict[tuple[str, ...], float]:
    """Return what a runtime of Temporal's is told: by name and labels, the last value."""
    buffer = MetricBuffer(1000)
    runtime = Runtime(telemetry=TelemetryConfig(metrics=buffer, attach_service_name=False))
    show(Metrics(runtime.metric_meter, is_dotted=False))
    return {
        (
            update.metric.name,
            *(f"{name}={value}" for name, value in sorted(update.attributes.items())),
        ): update.value
        for update in buffer.retrieve_updates()
    }


def test_the_state_of_limiters_is_shown() -> None:
    limits = (ProviderLimit(counted="tokens", per_minute=40_000), ProviderLimit(counted="requests", per_minute=-1))
    states = [
        ProviderState(provider="openai", circuit="open", limits=limits, waiting=3, refusals=2),
        ProviderState(provider="anthropic", circuit="closed"),
    ]
    found = shown(lambda metrics: metrics.limiter(states))
    assert found == {
        ("perdure_limiter_circuit", "provider=openai"): 2,
        ("perdure_limiter_waiting", "provider=openai"): 3,
        ("perdure_limiter_refusals", "provider=openai"): 2,
        ("perdure_limiter_limit", "dimension=tokens", "provider=openai"): 40_000,
        ("perdure_limiter_limit", "dimension=requests", "provider=openai"): 0,
        ("perdure_limiter_circuit", "provider=anthropic"): 0,
        ("perdure_limiter_waiting", "provider=anthropic"): 0,
        ("perdure_limiter_refusals", "provider=anthropic"): 0,
    }
    assert shown(lambda metrics: metrics.limiter(Gates().states())) == {}


def test_open_runs_are_shown_by_state() -> None:
    found = shown(lambda metrics: metrics.runs({"working": 4, "waiting_approval": 0}))
    assert found == {("perdure_runs", "state=working"): 4, ("perdure_runs", "state=waiting_approval"): 0}


def test_caches_are_counted_where_there_is_something_to_count() -> None:
    def work(metrics: Metrics) -> None:
        metrics.hit("messages", 0)
        metrics.hit("shared")
        metrics.missed("messages", 2)

    assert shown(work) == {
        ("perdure_cache_hits", "cache=shared"): 1,
        ("perdure_cache_misses", "cache=messages"): 2,
    }
