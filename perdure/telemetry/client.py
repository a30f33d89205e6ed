"""Takes the caller's trace along to what a client starts. Client side.

The caller's span is that of OpenTelemetry's API, if the process has it loaded; nothing is imported for it.
"""

import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

from temporalio.api.common.v1 import Payload
from temporalio.client import (
    ActivityHandle,
    Client,
    Interceptor,
    OutboundInterceptor,
    StartActivityInput,
    StartWorkflowInput,
    WorkflowHandle,
)
from temporalio.converter import PayloadConverter

from perdure.contracts.tracing import TRACE_HEADER, TraceContext

_API = "opentelemetry.trace"


class CallerContext(Interceptor):
    """Give it to a client; `PerdureClient` and `PerdurePlugin` do."""

    def intercept_client(self, next: OutboundInterceptor) -> OutboundInterceptor:
        """Return what adds the context."""
        return _Outbound(next)


def with_caller_context(client: Client) -> Client:
    """Return the same client, whose starts take the caller's trace along."""
    config = client.config(active_config=True)
    if any(isinstance(each, CallerContext) for each in config["interceptors"]):
        return client
    config["interceptors"] = [*config["interceptors"], CallerContext()]
    config["plugins"] = []  # they have had their say
    return Client(**config)


class _Outbound(OutboundInterceptor):
    async def start_workflow(self, input: StartWorkflowInput) -> WorkflowHandle[Any, Any]:
        if input.start_signal is None:  # a signal-with-start may find a run that is none of the caller's
            input = replace(input, headers=_with_context(input.headers))
        return await super().start_workflow(input)

    async def start_activity(self, input: StartActivityInput) -> ActivityHandle[Any]:
        return await super().start_activity(replace(input, headers=_with_context(input.headers)))


def _with_context(headers: Mapping[str, Payload]) -> Mapping[str, Payload]:
    context = _current()
    if context is None or TRACE_HEADER in headers:
        return headers
    return {**headers, TRACE_HEADER: PayloadConverter.default.to_payload(context.to_header())}


def _current() -> TraceContext | None:
    api = cast("Any", sys.modules.get(_API))
    if api is None:
        return None
    found = api.get_current_span().get_span_context()
    if not found.is_valid:
        return None
    return TraceContext(f"{found.trace_id:032x}", f"{found.span_id:016x}", bool(found.trace_flags.sampled))
