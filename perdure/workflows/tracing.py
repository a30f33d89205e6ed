"""The interceptor that gives a workflow its place in a trace. Workflow side.

It gives no command of its own and takes what it tells from history: a worker with tracing and one without replay a
run the same, and headers are no part of what replay compares.
"""

import asyncio
from typing import Any

from temporalio import workflow
from temporalio.exceptions import ActivityError, FailureError, is_cancelled_exception
from temporalio.worker import (
    ContinueAsNewInput,
    ExecuteWorkflowInput,
    StartActivityInput,
    StartChildWorkflowInput,
    StartLocalActivityInput,
    WorkflowInboundInterceptor,
    WorkflowOutboundInterceptor,
)

from perdure.contracts import span_names as names
from perdure.contracts.run import RunInput
from perdure.contracts.tracing import AttributeValue
from perdure.workflows._host import current_host
from perdure.workflows._trace import TELL, RunTrace, run_span
from perdure.workflows.agent import AgentWorkflow


class TracingInbound(WorkflowInboundInterceptor):
    """Wraps a workflow. The worker adds the functions `TELL` and `IS_SAMPLED`."""

    def init(self, outbound: WorkflowOutboundInterceptor) -> None:
        """Give what the workflow starts its context."""
        super().init(_Outbound(outbound))

    async def execute_workflow(self, input: ExecuteWorkflowInput) -> Any:
        """Run it, and tell its span when its chain of runs is over."""
        if TELL in workflow.extern_functions():
            current_host().trace = RunTrace(run_span(input.headers))
        request = input.args[0] if input.args else None
        try:
            result = await super().execute_workflow(input)
        except workflow.ContinueAsNewError:
            raise
        except (Exception, asyncio.CancelledError) as error:  # not GeneratorExit: then nothing has ended
            _tell(request, _error_type(error))
            raise
        _tell(request, "")
        return result


class _Outbound(WorkflowOutboundInterceptor):
    def start_activity(self, input: StartActivityInput) -> workflow.ActivityHandle[Any]:
        trace = current_host().trace
        if trace is None:
            return super().start_activity(input)
        input.headers = trace.headers(input.headers)
        handle, scheduled = super().start_activity(input), workflow.now()

        def look(done: "asyncio.Task[Any]") -> None:
            error = None if done.cancelled() else done.exception()
            if isinstance(error, ActivityError):
                trace.look_for_lost(input, error, scheduled)

        handle.add_done_callback(look)
        return handle

    def start_local_activity(self, input: StartLocalActivityInput) -> workflow.ActivityHandle[Any]:
        trace = current_host().trace
        if trace is not None:
            input.headers = trace.headers(input.headers)
        return super().start_local_activity(input)

    async def start_child_workflow(self, input: StartChildWorkflowInput) -> workflow.ChildWorkflowHandle[Any, Any]:
        trace = current_host().trace
        if trace is not None:
            input.headers = trace.headers(input.headers)
        return await super().start_child_workflow(input)

    def continue_as_new(self, input: ContinueAsNewInput) -> Any:
        trace = current_host().trace
        if trace is not None:
            input.headers = trace.successor_headers(input.headers)
        return super().continue_as_new(input)


def _tell(request: object, error: str) -> None:
    """Tell that a run is over; Temporal's meter counts nothing that is replayed."""
    name, attributes = _describe(request)
    labels = {"run": name, "state": error or "completed"}
    workflow.metric_meter().create_counter("perdure_runs_closed", "Runs that ended, by state").add(1, labels)
    trace = current_host().trace
    if trace is not None:
        trace.tell_run(name, attributes, error)


def _describe(request: object) -> tuple[str, dict[str, AttributeValue]]:
    """Return the name of a run's span, and what there is to say of it at its end."""
    instance = workflow.instance()
    if not isinstance(instance, AgentWorkflow) or not isinstance(request, RunInput):
        kind = workflow.info().workflow_type
        return f"{names.INVOKE_WORKFLOW} {kind}", {names.OPERATION: names.INVOKE_WORKFLOW, names.WORKFLOW: kind}
    status = instance.status()
    usage = status.counters.usage
    attributes: dict[str, AttributeValue] = {
        names.OPERATION: names.INVOKE_AGENT,
        names.AGENT: request.agent,
        names.CONVERSATION: workflow.info().workflow_id,
        names.INPUT_TOKENS: usage.input_tokens,
        names.OUTPUT_TOKENS: usage.output_tokens,
        names.TURNS: status.counters.turns,
        names.TOOL_CALLS: status.counters.tool_calls,
    }
    if usage.cost_usd is not None:
        attributes[names.COST] = float(usage.cost_usd)
    if request.tenant:
        attributes[names.TENANT] = request.tenant
    return f"{names.INVOKE_AGENT} {request.agent}", attributes


def _error_type(error: BaseException) -> str:
    if is_cancelled_exception(error):
        return "Cancelled"
    kind = getattr(error, "type", None) if isinstance(error, FailureError) else None
    return kind if isinstance(kind, str) else type(error).__name__
