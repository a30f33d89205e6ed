"""What a worker knows of its providers can be shown as metrics."""

from temporalio.common import MetricMeter

from perdure.contracts.workers import ProviderLimit, ProviderState
from perdure.providers._gate import Gates
from perdure.telemetry.metrics import Metrics


def test_the_state_of_limiters_is_shown() -> None:
    metrics = Metrics(MetricMeter.noop, is_dotted=False)
    limits = (ProviderLimit(counted="tokens", per_minute=40_000),)
    metrics.limiter([ProviderState(provider="openai", circuit="open", limits=limits)])
    metrics.limiter(Gates().states())
