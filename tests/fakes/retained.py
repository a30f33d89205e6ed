"""What a Temporal server has retained, for whoever reads all of it."""

from collections.abc import Callable
from typing import Any, cast

from temporalio.api.common.v1 import Payload
from temporalio.api.enums.v1 import WorkflowExecutionStatus
from temporalio.api.workflowservice.v1 import (
    DescribeActivityExecutionResponse,
    DescribeScheduleResponse,
    DescribeWorkflowExecutionResponse,
    GetWorkflowExecutionHistoryResponse,
    ListActivityExecutionsResponse,
    ListSchedulesResponse,
    ListWorkflowExecutionsResponse,
)
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode


class Retained:
    """The service of a server, as far as it lists and describes.

    Attributes:
        runs: What the history of a run has; open runs are those that have something pending.
        hidden: The same of runs of the server's own.
        pending: What an open run has pending, by run.
        schedules: What a schedule starts its runs with.
        activities: The outcome of standalone activities.
        failing: What is raised when a run's history is asked for, by run.
        meanwhile: Called before a history is read.
    """

    def __init__(self, **runs: list[Payload]) -> None:
        self.runs = runs
        self.hidden: dict[str, list[Payload]] = {}
        self.pending: dict[str, Payload] = {}
        self.schedules: dict[str, Payload] = {}
        self.activities: dict[str, Payload] = {}
        self.failing: dict[str, RPCStatusCode] = {}
        self.meanwhile: Callable[[], None] = lambda: None

    def client(self, namespace: str = "default") -> Client:
        """Return a client that is connected to it."""
        return cast("Client", _Connected(namespace, self))

    async def list_workflow_executions(self, request: Any, *, retry: bool) -> ListWorkflowExecutionsResponse:
        answer = ListWorkflowExecutionsResponse()
        for name in self.runs:
            info = answer.executions.add()
            info.execution.workflow_id = name
            if name in self.pending:
                info.status = WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_RUNNING
        return answer

    async def describe_workflow_execution(self, request: Any, *, retry: bool) -> Any:
        answer = DescribeWorkflowExecutionResponse()
        pending = self.pending[request.execution.workflow_id]
        answer.pending_activities.add().heartbeat_details.payloads.append(pending)
        return answer

    async def get_workflow_execution_history(self, request: Any, *, retry: bool) -> Any:
        name = request.execution.workflow_id
        self.meanwhile()
        if name in self.failing or name not in self.runs | self.hidden:
            raise RPCError("no more", self.failing.get(name, RPCStatusCode.NOT_FOUND), b"")
        answer = GetWorkflowExecutionHistoryResponse()
        for payload in (self.runs | self.hidden)[name]:
            event = answer.history.events.add()
            event.activity_task_completed_event_attributes.result.payloads.append(payload)
        return answer

    async def list_schedules(self, request: Any, *, retry: bool) -> ListSchedulesResponse:
        answer = ListSchedulesResponse()
        for name in self.schedules:
            answer.schedules.add().schedule_id = name
        return answer

    async def describe_schedule(self, request: Any, *, retry: bool) -> DescribeScheduleResponse:
        answer = DescribeScheduleResponse()
        given = answer.schedule.action.start_workflow.input.payloads
        given.append(self.schedules[request.schedule_id])
        return answer

    async def list_activity_executions(self, request: Any, *, retry: bool) -> ListActivityExecutionsResponse:
        answer = ListActivityExecutionsResponse()
        for name in self.activities:
            answer.executions.add().activity_id = name
        return answer

    async def describe_activity_execution(self, request: Any, *, retry: bool) -> DescribeActivityExecutionResponse:
        assert request.include_outcome
        answer = DescribeActivityExecutionResponse()
        answer.outcome.result.payloads.append(self.activities[request.activity_id])
        return answer


class _Connected:
    def __init__(self, namespace: str, service: Retained) -> None:
        self.namespace = namespace
        self.workflow_service = service
