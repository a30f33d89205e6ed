"""When an update is sent again: where that can't do it twice."""

from types import SimpleNamespace
from typing import Any, cast

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from temporalio.api.workflow.v1 import WorkflowExecutionInfo
from temporalio.api.workflowservice.v1 import DescribeWorkflowExecutionResponse
from temporalio.client import Client, WorkflowUpdateFailedError, WorkflowUpdateRPCTimeoutOrCancelledError
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError, RPCStatusCode

from perdure.client._updates import deliver_update
from perdure.errors import NoWorkerError, RunNotFoundError


def refusal(status: RPCStatusCode, message: str = "said the server") -> RPCError:
    return RPCError(message, status, b"")


class Run:
    """A run that fails as it is told to, and then answers; with the server that it is on."""

    namespace = "default"

    def __init__(self, *failures: Exception, is_closed: bool = False) -> None:
        self.ids: list[str] = []
        self.workflow_service = SimpleNamespace(describe_workflow_execution=self._describe)
        self._failures = list(failures)
        self._is_closed = is_closed

    def get_workflow_handle(self, _: str) -> "Run":
        return self

    async def execute_update(self, _: str, *, id: str, **__: Any) -> str:
        self.ids.append(id)
        if self._failures:
            raise self._failures.pop(0)
        return "done"

    async def _describe(self, *_: Any, **__: Any) -> DescribeWorkflowExecutionResponse:
        closed = Timestamp(seconds=1) if self._is_closed else None
        return DescribeWorkflowExecutionResponse(workflow_execution_info=WorkflowExecutionInfo(close_time=closed))


async def deliver(run: Run, *, is_repeatable: bool) -> str:
    return await deliver_update(cast("Client", run), "w", "rename", ["x"], is_repeatable=is_repeatable)


@pytest.mark.parametrize("is_repeatable", [True, False])
async def test_what_was_not_taken_is_sent_again_as_the_same(is_repeatable: bool) -> None:
    run = Run(refusal(RPCStatusCode.RESOURCE_EXHAUSTED), refusal(RPCStatusCode.NOT_FOUND))
    assert await deliver(run, is_repeatable=is_repeatable) == "done"
    assert len(run.ids) == 3
    assert len(set(run.ids)) == 1


UNFINISHED = WorkflowUpdateFailedError(ApplicationError("closed", type="AcceptedUpdateCompletedWorkflow"))


@pytest.mark.parametrize(
    ("failure", "told"),
    [
        (refusal(RPCStatusCode.UNAVAILABLE), RPCError),
        (refusal(RPCStatusCode.ABORTED), RPCError),
        (WorkflowUpdateRPCTimeoutOrCancelledError(), NoWorkerError),
        (UNFINISHED, WorkflowUpdateFailedError),
    ],
)
async def test_what_may_have_been_taken_is_sent_again_only_where_that_is_as_once(
    failure: Exception, told: type[Exception]
) -> None:
    assert await deliver(Run(failure), is_repeatable=True) == "done"
    run = Run(failure)
    with pytest.raises(told):
        await deliver(run, is_repeatable=False)
    assert len(run.ids) == 1


@pytest.mark.parametrize(
    "failure",
    [UNFINISHED, refusal(RPCStatusCode.NOT_FOUND), refusal(RPCStatusCode.NOT_FOUND, "already completed")],
)
async def test_a_run_that_is_closed_is_told_nothing_more(failure: Exception) -> None:
    with pytest.raises(RunNotFoundError, match="The run 'w' is closed"):
        await deliver(Run(failure, is_closed=True), is_repeatable=True)


async def test_a_refusal_is_final() -> None:
    run = Run(WorkflowUpdateFailedError(ApplicationError("no", type="Theirs")))
    with pytest.raises(WorkflowUpdateFailedError):
        await deliver(run, is_repeatable=True)
    assert len(run.ids) == 1
