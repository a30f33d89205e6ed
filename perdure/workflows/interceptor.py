"""The interceptor of every workflow of an App: a defect ends the run with a type. Workflow side.

A plain exception in a user's workflow, or in one of its signal handlers, would otherwise fail the workflow task,
and Temporal would retry that for ever. At the end, however it comes, outcomes that are held leave for the
scoreboard.
"""

import asyncio
from typing import Any

from temporalio import workflow
from temporalio.worker import (
    ExecuteWorkflowInput,
    HandleSignalInput,
    HandleUpdateInput,
    Interceptor,
    StartChildWorkflowInput,
    WorkflowInboundInterceptor,
    WorkflowInterceptorClassInput,
    WorkflowOutboundInterceptor,
)

from perdure.workflows._details import UI_URL
from perdure.workflows._guard import typed_failures
from perdure.workflows._host import Reset, answer_outside, current_host


class PerdureInterceptor(Interceptor):
    """Give it to a worker; `PerdurePlugin` does.

    Args:
        ui_url: The address of Temporal's web UI, for links in the details of runs; no links when empty.
    """

    def __init__(self, *, ui_url: str = "") -> None:
        """Work with that address."""
        self._ui_url = ui_url

    def workflow_interceptor_class(
        self, input: WorkflowInterceptorClassInput
    ) -> type[WorkflowInboundInterceptor] | None:
        """Return the class that wraps each workflow."""
        input.unsafe_extern_functions[UI_URL] = lambda: self._ui_url  # for what is shown: it decides nothing
        return _Inbound


class _Inbound(WorkflowInboundInterceptor):
    def init(self, outbound: WorkflowOutboundInterceptor) -> None:
        """Notice a reset: Temporal gives the run new random numbers then, also when it is replayed."""
        super().init(_Outbound(outbound))
        self._reset = Reset()
        workflow.register_random_seed_callback(self._reset.note)

    async def execute_workflow(self, input: ExecuteWorkflowInput) -> Any:
        current_host().reset = self._reset
        answer_outside()
        with typed_failures():
            outcomes = current_host().outcomes
            try:
                result = await super().execute_workflow(input)
            except (
                Exception,
                asyncio.CancelledError,
                workflow.ContinueAsNewError,
            ):  # not GeneratorExit: no loop then
                await outcomes.flush()
                raise
            await outcomes.flush()
            return result

    async def handle_signal(self, input: HandleSignalInput) -> None:
        with typed_failures():
            await super().handle_signal(input)

    async def handle_update_handler(self, input: HandleUpdateInput) -> Any:
        with typed_failures():
            return await super().handle_update_handler(input)


class _Outbound(WorkflowOutboundInterceptor):
    async def start_child_workflow(self, input: StartChildWorkflowInput) -> workflow.ChildWorkflowHandle[Any, Any]:
        """Start no child while the workflow is paused, and tell children of it."""
        pause = current_host().pause
        await pause.passed()
        handle = await super().start_child_workflow(input)
        pause.started(handle.id)
        handle.add_done_callback(lambda _: pause.ended(handle.id))
        return handle
