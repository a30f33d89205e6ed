"""Notes what workflow code asks for while it is replayed. Workflow side; it decides nothing."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, cast

from temporalio import workflow
from temporalio.worker import (
    ExecuteWorkflowInput,
    Interceptor,
    StartActivityInput,
    StartChildWorkflowInput,
    WorkflowInboundInterceptor,
    WorkflowInterceptorClassInput,
    WorkflowOutboundInterceptor,
)

from perdure.errors import AgentBug

_NOTE = "perdure.replay_note"


class Step(NamedTuple):
    """An activity or a child workflow, as code asks for it or history has it."""

    kind: str
    """`activity` or `child workflow`."""
    name: str

    def __str__(self) -> str:
        """Return it in words."""
        return f"the {self.kind} {self.name!r}"


class Recorder(Interceptor):
    """Give it to a replayer, before all others.

    Attributes:
        steps: What the code asked for, in order, by run id.
        defects: What the code raised that is no failure of its own making, by run id.
    """

    def __init__(self) -> None:
        """Note nothing yet."""
        self.steps: dict[str, list[Step]] = {}
        self.defects: dict[str, str] = {}

    def workflow_interceptor_class(
        self, input: WorkflowInterceptorClassInput
    ) -> type[WorkflowInboundInterceptor] | None:
        """Return the class that wraps each workflow."""
        input.unsafe_extern_functions[_NOTE] = self._note
        return _Inbound

    def _note(self, run_id: str, noted: Step | str) -> None:
        if isinstance(noted, str):
            self.defects[run_id] = noted
        else:
            self.steps.setdefault(run_id, []).append(noted)


def _note(noted: Step | str) -> None:
    functions = cast("Mapping[str, Callable[..., Any]]", workflow.extern_functions())
    functions[_NOTE](workflow.info().run_id, noted)


class _Inbound(WorkflowInboundInterceptor):
    def init(self, outbound: WorkflowOutboundInterceptor) -> None:
        super().init(_Outbound(outbound))

    async def execute_workflow(self, input: ExecuteWorkflowInput) -> Any:
        try:
            return await super().execute_workflow(input)
        except AgentBug as error:
            _note(error.message)
            raise


class _Outbound(WorkflowOutboundInterceptor):
    def start_activity(self, input: StartActivityInput) -> workflow.ActivityHandle[Any]:
        _note(Step("activity", input.activity))
        return super().start_activity(input)

    async def start_child_workflow(self, input: StartChildWorkflowInput) -> workflow.ChildWorkflowHandle[Any, Any]:
        _note(Step("child workflow", input.workflow))
        return await super().start_child_workflow(input)
