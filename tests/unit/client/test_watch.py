"""A run is followed on where the server fails for a moment."""

import asyncio
from types import SimpleNamespace
from typing import Any

from temporalio.api.workflow.v1 import PendingActivityInfo
from temporalio.api.workflowservice.v1 import DescribeWorkflowExecutionResponse
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.service import RPCError, RPCStatusCode

from perdure.client._watch import _Run


class Server:
    """Fails once, then has a call in flight."""

    namespace = "default"
    data_converter = pydantic_data_converter

    def __init__(self) -> None:
        self.workflow_service = SimpleNamespace(describe_workflow_execution=self._describe)
        self.asked = 0

    async def _describe(self, *_: Any, **__: Any) -> DescribeWorkflowExecutionResponse:
        self.asked += 1
        if self.asked == 1:
            raise RPCError("restarting", RPCStatusCode.UNAVAILABLE, b"")
        return DescribeWorkflowExecutionResponse(pending_activities=[PendingActivityInfo(activity_id="1")])


async def test_calls_in_flight_are_told_after_an_error_that_passes() -> None:
    server: Any = Server()
    run = _Run(server, "w", "r", None)
    polling = asyncio.create_task(run.poll())
    async with asyncio.timeout(10):
        event = await run.queue.get()
    polling.cancel()
    assert event is not None
    assert event.kind == "pending"
    assert len(event.pending) == 1
