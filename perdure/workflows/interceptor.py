"""The interceptor of every workflow of an App: a defect ends the run with a type. Workflow side.

A plain exception in a user's workflow, or in one of its signal handlers, would otherwise fail the workflow task,
and Temporal would retry that for ever. At the end, however it comes, outcomes that are held leave for the
scoreboard.
"""

import asyncio
from collections.abc import Mapping
from typing import Any, NoReturn

from temporalio import workflow
from temporalio.api.common.v1 import Payload
from temporalio.common import SearchAttributeKey
from temporalio.worker import (
    ContinueAsNewInput,
    ExecuteWorkflowInput,
    HandleQueryInput,
    HandleSignalInput,
    HandleUpdateInput,
    Interceptor,
    StartChildWorkflowInput,
    WorkflowInboundInterceptor,
    WorkflowInterceptorClassInput,
    WorkflowOutboundInterceptor,
)

from perdure.contracts.budget import NOTHING
from perdure.contracts.names import AGENT_WORKFLOW, MAP_NODE, TENANT_HEADER
from perdure.contracts.times import CLEAN_UP_TIMEOUT
from perdure.workflows._bills import bill_headers, close_bill, take_bill
from perdure.workflows._details import UI_URL
from perdure.workflows._guard import bound_clean_up, typed_failures
from perdure.workflows._headers import read_header, write_header
from perdure.workflows._host import Reset, answer_outside, current_host

_METADATA_QUERY = "__temporal_workflow_metadata"
"""Temporal's own, by which its web UI asks for the details of a run."""
_TENANT = SearchAttributeKey.for_keyword("PerdureTenant")


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
        with typed_failures():
            host = current_host()
            outcomes, funds = host.outcomes, host.funds
            host.tenant = _tenant(input.headers)
            is_own = workflow.info().workflow_type != AGENT_WORKFLOW
            if is_own:
                funds.open(input.headers)
                host.pause.open(input.headers)
                take_bill(input.headers)
            answer_outside()  # now, so that what was heard since comes after that
            bound = _bound_clean_up()
            try:
                result = await super().execute_workflow(input)
            except (
                Exception,
                asyncio.CancelledError,
                workflow.ContinueAsNewError,
            ) as error:  # not GeneratorExit: no loop then
                _stop(bound)
                if is_own and _is_end(error):
                    close_bill()
                await outcomes.flush()
                if not isinstance(error, workflow.ContinueAsNewError):
                    await funds.settle_up()
                raise
            _stop(bound)
            if is_own:
                close_bill()
            await outcomes.flush()
            await funds.settle_up()
            return result

    async def handle_query(self, input: HandleQueryInput) -> Any:
        answer = await super().handle_query(input)
        if input.query == _METADATA_QUERY and not answer.current_details:
            try:
                answer.current_details = current_host().details()
            except Exception as error:  # the answer tells the handlers, too
                workflow.logger.warning("The details could not be made: %s", type(error).__name__)
        return answer

    async def handle_signal(self, input: HandleSignalInput) -> None:
        with typed_failures():
            await super().handle_signal(input)

    async def handle_update_handler(self, input: HandleUpdateInput) -> Any:
        with typed_failures():
            return await super().handle_update_handler(input)


def _bound_clean_up() -> "asyncio.Task[None] | None":
    """Give the clean-up of a workflow of the user's own a deadline; perdure's own have no code of the user's."""
    work = asyncio.current_task()
    if work is None or type(workflow.instance()).__module__.startswith("perdure."):
        return None
    return asyncio.create_task(bound_clean_up(work, CLEAN_UP_TIMEOUT))


def _is_end(error: BaseException) -> bool:
    """Say whether a workflow is over with this; else it goes on as new, or elsewhere after an eviction."""
    if isinstance(error, asyncio.CancelledError):
        return workflow.cancellation_reason() is not None
    return not isinstance(error, workflow.ContinueAsNewError)


def _tenant(headers: Mapping[str, Payload]) -> str:
    """Return who a workflow is for: as its parent says, or whoever started it."""
    given: str | None = read_header(headers, TENANT_HEADER, str)
    return given or workflow.info().typed_search_attributes.get(_TENANT, "")


def _stop(task: "asyncio.Task[None] | None") -> None:
    if task is not None:
        task.cancel()


class _Outbound(WorkflowOutboundInterceptor):
    """Starts no child while the workflow is paused, and shares the workflow's limit with what is no agent's run.

    A child of the user's, or the run that continues this one: their inputs are the user's own, so that what they
    are lent goes into headers.
    """

    async def start_child_workflow(self, input: StartChildWorkflowInput) -> workflow.ChildWorkflowHandle[Any, Any]:
        """Start a child, and tell it of pauses."""
        pause = current_host().pause
        await pause.passed()
        handle = await self._start_funded(input)
        pause.started(handle.id)
        handle.add_done_callback(lambda _: pause.ended(handle.id))
        return handle

    async def _start_funded(self, input: StartChildWorkflowInput) -> workflow.ChildWorkflowHandle[Any, Any]:
        funds, child = current_host().funds, input.id
        account, is_ours = funds.account, input.workflow in (AGENT_WORKFLOW, MAP_NODE)
        if current_host().tenant and not is_ours:
            input.headers = {**input.headers, **write_header(TENANT_HEADER, current_host().tenant)}
        if account is None or is_ours:
            return await super().start_child_workflow(input)
        input.headers = {**input.headers, **funds.headers_for(child)}
        try:
            handle = await super().start_child_workflow(input)
        except BaseException:
            account.close(child, NOTHING)
            raise
        account.started(child)
        handle.add_done_callback(lambda _: account.close(child, None))
        return handle

    def continue_as_new(self, input: ContinueAsNewInput) -> NoReturn:
        """Tell the run that continues this one what is spent, whether it is paused, and who it is for.

        What runs of agents hand on is in their input.
        """
        if workflow.info().workflow_type != AGENT_WORKFLOW:
            host = current_host()
            tenant = write_header(TENANT_HEADER, host.tenant) if host.tenant else {}
            known = {**host.funds.headers_on(), **host.pause.headers_on(), **bill_headers(), **tenant}
            input.headers = {**input.headers, **known}
        super().continue_as_new(input)
