"""The interceptor with which a worker tells of its work, and what it samples meanwhile. Wiring only."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import get_args

from temporalio.client import Client
from temporalio.service import RPCError
from temporalio.worker import (
    ActivityInboundInterceptor,
    Interceptor,
    WorkflowInboundInterceptor,
    WorkflowInterceptorClassInput,
)

from perdure._search_attributes import existing_search_attributes
from perdure.activities._lookup import Lookup
from perdure.contracts.run import RunState
from perdure.providers.registry import Providers
from perdure.telemetry.activities import ActivityTelemetry
from perdure.telemetry.setup import Telemetry
from perdure.workflows._trace import IS_SAMPLED, TELL
from perdure.workflows.tracing import TracingInbound

_log = logging.getLogger(__name__)

_SAMPLE_SECONDS = 5.0
_SAMPLES_PER_COUNT = 12
_CLOSED = ("completed", "failed")


class TelemetryInterceptor(Interceptor):
    """Tells of every workflow and activity of a worker."""

    def __init__(self, telemetry: Telemetry) -> None:
        """Tell what `telemetry` is for."""
        self._telemetry = telemetry

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:
        """Wrap the activities."""
        return ActivityTelemetry(next, self._telemetry)

    def workflow_interceptor_class(
        self, input: WorkflowInterceptorClassInput
    ) -> type[WorkflowInboundInterceptor] | None:
        """Wrap the workflows, where they are traced or counted."""
        spans = self._telemetry.spans
        if spans is not None:
            functions: Mapping[str, Callable[..., object]] = {TELL: spans.tell_soon, IS_SAMPLED: spans.is_sampled}
            input.unsafe_extern_functions.update(functions)
        return TracingInbound


@asynccontextmanager
async def told(
    telemetry: Telemetry, client: Client, *, providers: Providers, lookup: Lookup
) -> AsyncGenerator[None]:
    """Send what is told, while a worker runs, and the rest at the end."""
    if telemetry.spans is not None:
        telemetry.spans.attach()
    sampling = asyncio.create_task(_sample(telemetry, client, providers, lookup)) if telemetry.metrics else None
    try:
        yield
    finally:
        if sampling is not None:
            sampling.cancel()
        if telemetry.spans is not None:
            await telemetry.spans.aclose()


async def _sample(telemetry: Telemetry, client: Client, providers: Providers, lookup: Lookup) -> None:
    """Show what has no event of its own: limiters, caches, and now and then how many runs are open."""
    metrics, number = telemetry.metrics, 0
    assert metrics is not None, "the caller has looked"
    while True:
        metrics.limiter(providers.gates.states())
        hits, misses = lookup.take_counts()
        metrics.hit("messages", hits)
        metrics.missed("messages", misses)
        if number % _SAMPLES_PER_COUNT == 0:
            metrics.runs(await _count_runs(client))
        number += 1
        await asyncio.sleep(_SAMPLE_SECONDS)


async def _count_runs(client: Client) -> dict[str, int]:
    """Return how many runs are in which state, as the server has indexed it."""
    counts: dict[str, int] = {}
    try:
        if "PerdureState" not in await existing_search_attributes(client):
            return {}
        for state in get_args(RunState):
            if state not in _CLOSED:
                query = f"ExecutionStatus = 'Running' AND PerdureState = '{state}'"
                counts[state] = (await client.count_workflows(query)).count
    except RPCError as error:
        _log.debug("The open runs can't be counted: %s", error)
    return counts
