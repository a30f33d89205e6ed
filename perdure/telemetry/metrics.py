"""What is counted, by the meter of Temporal's runtime: it goes where Temporal's own metrics go. Activity side."""

from collections.abc import Iterable, Mapping

from temporalio.client import Client
from temporalio.common import MetricMeter
from temporalio.runtime import Runtime

from perdure.contracts import span_names as names
from perdure.contracts.calls import CallModelResult
from perdure.contracts.usage import Usage
from perdure.contracts.workers import ProviderState

Attributes = Mapping[str, str | int | float | bool]

_CIRCUITS = {"closed": 0, "probing": 1, "open": 2}


def meter_of(client: Client) -> MetricMeter:
    """Return the meter of a client's runtime; one that counts nothing where that sends no metrics."""
    return (client.service_client.config.runtime or Runtime.default()).metric_meter


class Metrics:
    """The instruments of a worker."""

    def __init__(self, meter: MetricMeter, *, is_dotted: bool) -> None:
        """Make them.

        Args:
            meter: Of Temporal's runtime.
            is_dotted: Whether names of the conventions keep their dots, which Prometheus can't have.
        """
        self._is_dotted = is_dotted
        self._tokens = meter.create_histogram(
            self._name("gen_ai.client.token.usage"), "Tokens of a model call, by type", "{token}"
        )
        self._duration = meter.create_histogram_float(
            self._name("gen_ai.client.operation.duration"), "Time of an attempt at a model or tool call", "s"
        )
        self._cost = meter.create_histogram_float("perdure_cost", "US dollars of a model call", "USD")
        self._tool_errors = meter.create_counter("perdure_tool_errors", "Tool calls that failed")
        self._saved = meter.create_counter("perdure_cache_hits", "Calls and messages that a cache answered")
        self._misses = meter.create_counter("perdure_cache_misses", "Messages that had to be looked up")
        self._waiting = meter.create_gauge(
            "perdure_limiter_waiting", "Calls that wait in this worker for a rate limit"
        )
        self._circuit = meter.create_gauge("perdure_limiter_circuit", "0 closed, 1 probing, 2 open")
        self._limit = meter.create_gauge_float(
            "perdure_limiter_limit", "What this worker knows of a vendor's limits, a minute, by dimension"
        )
        self._refusals = meter.create_gauge(
            "perdure_limiter_refusals", "Calls that the vendor refused, since the start"
        )
        self._runs = meter.create_gauge("perdure_runs", "Open runs of agents by state, in the namespace")

    def _name(self, name: str) -> str:
        return name if self._is_dotted else name.replace(".", "_")

    def _labels(self, attributes: Attributes) -> Attributes:
        return attributes if self._is_dotted else {self._name(name): value for name, value in attributes.items()}

    def model_call(self, attributes: Attributes, seconds: float, result: CallModelResult | None) -> None:
        """Count an attempt at a model call."""
        attributes = self._labels(attributes)
        self._duration.record(seconds, attributes)
        if result is None:
            return
        usage = result.usage
        if result.saved is not None:
            self.hit("shared")
            return
        self._count_tokens(usage, attributes)
        if usage.cost_usd is not None:
            self._cost.record(float(usage.cost_usd), attributes)

    def _count_tokens(self, usage: Usage, attributes: Attributes) -> None:
        for kind, count in (("input", usage.input_tokens), ("output", usage.output_tokens)):
            self._tokens.record(count, {**attributes, self._name(names.TOKEN_TYPE): kind})

    def tool_call(self, attributes: Attributes, seconds: float, *, is_error: bool) -> None:
        """Count an attempt at a tool call."""
        attributes = self._labels(attributes)
        self._duration.record(seconds, attributes)
        if is_error:
            self._tool_errors.add(1, attributes)

    def hit(self, cache: str, count: int = 1) -> None:
        """Count what a cache answered."""
        if count:
            self._saved.add(count, {"cache": cache})

    def missed(self, cache: str, count: int = 1) -> None:
        """Count what it couldn't answer."""
        if count:
            self._misses.add(count, {"cache": cache})

    def limiter(self, states: Iterable[ProviderState]) -> None:
        """Show the state of the providers."""
        for state in states:
            provider = {"provider": state.provider}
            self._waiting.set(state.waiting, provider)
            self._circuit.set(_CIRCUITS.get(state.circuit, 1), provider)
            self._refusals.set(state.refusals, provider)
            for limit in state.limits:
                self._limit.set(max(limit.per_minute, 0.0), {**provider, "dimension": limit.counted})

    def runs(self, counts: Mapping[str, int]) -> None:
        """Show how many runs are in which state."""
        for state, count in counts.items():
            self._runs.set(count, {"state": state})
