"""Drives the real workflow code of a run without a server: activations in, commands out.

The SDK's own workflow instance runs the code. It is given activations, as a worker's core makes them of events.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from google.protobuf.duration_pb2 import Duration
from temporalio import workflow
from temporalio.api.common.v1 import Payload, Payloads
from temporalio.bridge.proto.activity_result import ActivityResolution
from temporalio.bridge.proto.child_workflow import ChildWorkflowResult
from temporalio.bridge.proto.workflow_activation import WorkflowActivation, WorkflowActivationJob
from temporalio.bridge.proto.workflow_commands import WorkflowCommand
from temporalio.common import Priority, TypedSearchAttributes
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import UnsandboxedWorkflowRunner, WorkflowInterceptorClassInput
from temporalio.worker._workflow_instance import WorkflowInstance, WorkflowInstanceDetails

from perdure.contracts._base import Contract
from perdure.errors import PerdureError
from perdure.workflows.agent import AgentWorkflow
from perdure.workflows.interceptor import PerdureInterceptor

CONVERTER = pydantic_data_converter
_EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


def payload(value: Any) -> Payload:
    return CONVERTER.payload_converter.to_payloads([value])[0]


def read(given: Payload, kind: type[Any]) -> Any:
    return CONVERTER.payload_converter.from_payloads([given], [kind])[0]


@dataclass
class Activity:
    """A call in flight."""

    seq: int
    name: str
    argument: Payload
    is_local: bool
    is_cancel_requested: bool = False


@dataclass
class Child:
    """A child run."""

    seq: int
    id: str
    argument: Payload
    is_cancel_requested: bool = False


@dataclass
class Letter:
    """A signal to another run, on its way."""

    seq: int
    to: tuple[str, str]
    """Workflow id and run id."""
    argument: Payload


@dataclass
class OneRun:
    """One run of the chain.

    Attributes:
        activities: In flight, by number.
        children: Open, by number.
        letters: On their way, by number.
        timers: Open, by number: when they are due.
        told: What updates were answered with, by id: a payload, or the failure's message.
        end: The command that closed it.
    """

    request: Contract
    number: int
    now: datetime = _EPOCH
    cls: type[Any] = AgentWorkflow
    parent: workflow.ParentInfo | None = None
    activities: dict[int, Activity] = field(default_factory=dict[int, Activity])
    children: dict[int, Child] = field(default_factory=dict[int, Child])
    letters: dict[int, Letter] = field(default_factory=dict[int, Letter])
    timers: dict[int, datetime] = field(default_factory=dict[int, datetime])
    told: dict[str, Payload | str] = field(default_factory=dict[str, Payload | str])
    end: WorkflowCommand | None = None
    is_suggested: bool = False

    def __post_init__(self) -> None:
        self.log: list[tuple[WorkflowActivation, list[WorkflowCommand]]] = []
        self._instance = self._make()
        self._events = 0
        job = WorkflowActivationJob()
        job.initialize_workflow.workflow_type = _definition(self.cls).name or ""
        job.initialize_workflow.workflow_id = "w"
        job.initialize_workflow.arguments.append(payload(self.request))
        job.initialize_workflow.randomness_seed = 7
        self._first = [job]

    def _make(self) -> WorkflowInstance:
        return _make(self.number, self.cls, self.parent)

    @property
    def code(self) -> AgentWorkflow:
        """The workflow's own object, to be looked at."""
        return self._instance._object  # pyright: ignore

    def activate(self, *jobs: WorkflowActivationJob) -> list[WorkflowCommand]:
        """Give the run events; return its commands, which are entered here as the server would."""
        given, self._first = [*self._first, *jobs], []
        self._events += 5
        activation = WorkflowActivation(
            run_id=f"run-{self.number}",
            history_length=5_000 if self.is_suggested else self._events,
            history_size_bytes=5_000_000 if self.is_suggested else 1000 * self._events,
            continue_as_new_suggested=self.is_suggested,
            jobs=given,
        )
        activation.timestamp.FromDatetime(self.now)
        commands = _commands(self._instance, activation)
        self.log.append((activation, commands))
        for command in commands:
            self._enter(command)
        return commands

    def query(self, name: str, kind: type[Any]) -> Any:
        """Ask the run something; nothing of it is recorded."""
        job = WorkflowActivationJob()
        job.query_workflow.query_id = "q"
        job.query_workflow.query_type = name
        activation = WorkflowActivation(run_id=f"run-{self.number}", jobs=[job])
        activation.timestamp.FromDatetime(self.now)
        (command,) = _commands(self._instance, activation)
        return read(command.respond_to_query.succeeded.response, kind)

    def replay(self) -> None:
        """Run all of it again on a fresh instance, and find the same commands; a refused update left no trace."""
        refused = {id for id, told in self.told.items() if isinstance(told, str)}
        instance = self._make()
        patches = [
            c.set_patch_marker.patch_id for _, given in self.log for c in given if c.HasField("set_patch_marker")
        ]
        for activation, commands in self.log:
            if len(activation.jobs) == 1 and any(c.update_response.HasField("rejected") for c in commands):
                assert len(commands) == 1, "there is no event for what a refused update did"
                continue
            again = WorkflowActivation()
            for patch in patches:
                again.jobs.add().notify_has_patch.patch_id = patch
            patches.clear()
            again.MergeFrom(activation)
            again.is_replaying = True
            kept = [job for job in again.jobs if job.do_update.id not in refused]
            if not kept:
                continue
            del again.jobs[:]
            again.jobs.extend(kept)
            for job in again.jobs:
                if job.HasField("do_update"):
                    job.do_update.run_validator = False
            expected = [each for each in commands if each.update_response.protocol_instance_id not in refused]
            assert _commands(instance, again) == expected

    def _enter(self, command: WorkflowCommand) -> None:
        kind = command.WhichOneof("variant")
        match kind:
            case "schedule_activity" | "schedule_local_activity":
                given = getattr(command, kind)
                self.activities[given.seq] = Activity(
                    given.seq, given.activity_type, given.arguments[0], kind == "schedule_local_activity"
                )
            case "request_cancel_activity":
                asked = self.activities.get(command.request_cancel_activity.seq)
                if asked is not None:
                    asked.is_cancel_requested = True
            case "start_timer":
                wait: Duration = command.start_timer.start_to_fire_timeout
                self.timers[command.start_timer.seq] = self.now + wait.ToTimedelta()
            case "cancel_timer":
                self.timers.pop(command.cancel_timer.seq, None)
            case "update_response":
                response = command.update_response
                if response.HasField("rejected"):
                    self.told[response.protocol_instance_id] = response.rejected.message
                elif response.HasField("completed"):
                    self.told[response.protocol_instance_id] = response.completed
            case (
                "complete_workflow_execution"
                | "fail_workflow_execution"
                | "cancel_workflow_execution"
                | "continue_as_new_workflow_execution"
            ):
                self.end = command
            case _:
                self._enter_for_others(command)

    def _enter_for_others(self, command: WorkflowCommand) -> None:
        match command.WhichOneof("variant"):
            case "start_child_workflow_execution":
                child = command.start_child_workflow_execution
                self.children[child.seq] = Child(child.seq, child.workflow_id, child.input[0])
            case "cancel_child_workflow_execution":
                seq = command.cancel_child_workflow_execution.child_workflow_seq
                self.children[seq].is_cancel_requested = True
            case "signal_external_workflow_execution":
                sent = command.signal_external_workflow_execution
                to = (sent.workflow_execution.workflow_id, sent.workflow_execution.run_id)
                self.letters[sent.seq] = Letter(sent.seq, to, sent.args[0])
            case _:
                pass


def _commands(instance: WorkflowInstance, activation: WorkflowActivation) -> list[WorkflowCommand]:
    completion = instance.activate(activation)
    assert completion.HasField("successful"), completion.failed
    return list(completion.successful.commands)


def _definition(cls: type[Any]) -> Any:
    return workflow._Definition.must_from_class(cls)  # pyright: ignore[reportPrivateUsage]


def _make(number: int, cls: type[Any], parent: workflow.ParentInfo | None) -> WorkflowInstance:
    interceptor = PerdureInterceptor().workflow_interceptor_class(
        WorkflowInterceptorClassInput(unsafe_extern_functions={})
    )
    assert interceptor is not None
    info: Any = workflow.Info(
        attempt=1,
        continued_run_id=None,
        cron_schedule=None,
        execution_timeout=None,
        first_execution_run_id="run-1",
        headers={},
        namespace="default",
        original_execution_run_id=f"run-{number}",
        parent=parent,
        root=None,
        priority=Priority.default,
        raw_memo={},
        retry_policy=None,
        run_id=f"run-{number}",
        run_timeout=None,
        search_attributes={},
        start_time=_EPOCH,
        task_queue="q",
        task_timeout=timedelta(seconds=10),
        typed_search_attributes=TypedSearchAttributes([]),
        workflow_id="w",
        workflow_start_time=_EPOCH,
        workflow_type=_definition(cls).name,
    )
    details = WorkflowInstanceDetails(
        payload_converter_factory=CONVERTER.payload_converter_class,
        failure_converter_class=CONVERTER.failure_converter_class,
        interceptor_classes=[interceptor],
        defn=_definition(cls),
        info=info,
        randomness_seed=7,
        extern_functions={"__temporal_assert_local_activity_valid": _ignore},
        disable_eager_activity_execution=True,
        worker_level_failure_exception_types=[PerdureError],
        patch_activation_callback=None,
        last_completion_result=Payloads(),
        last_failure=None,
    )

    async def make() -> WorkflowInstance:
        return UnsandboxedWorkflowRunner().create_instance(details)  # it wants to be made where a loop runs

    return asyncio.run(make())


def update(name: str, id: str, argument: Contract) -> WorkflowActivationJob:
    job = WorkflowActivationJob()
    job.do_update.id = job.do_update.protocol_instance_id = id
    job.do_update.name = name
    job.do_update.input.append(payload(argument))
    job.do_update.run_validator = True
    return job


def signal(name: str, argument: Contract) -> WorkflowActivationJob:
    job = WorkflowActivationJob()
    job.signal_workflow.signal_name = name
    job.signal_workflow.originating_event_id = 1
    job.signal_workflow.input.append(payload(argument))
    return job


def cancel() -> WorkflowActivationJob:
    job = WorkflowActivationJob()
    job.cancel_workflow.reason = "by the test"
    return job


def resolved(activity: Activity, result: Contract | None) -> WorkflowActivationJob:
    """Return the end of an activity: its result, or None where it was cancelled."""
    job = WorkflowActivationJob()
    job.resolve_activity.seq = activity.seq
    job.resolve_activity.is_local = activity.is_local
    resolution = ActivityResolution()
    if result is None:
        failure = resolution.cancelled.failure
        failure.message = "activity cancelled"
        failure.activity_failure_info.activity_type.name = activity.name
        failure.cause.message = "cancelled"
        failure.cause.canceled_failure_info.SetInParent()
    else:
        resolution.completed.result.CopyFrom(payload(result))
    job.resolve_activity.result.CopyFrom(resolution)
    return job


def failed(activity: Activity, error: PerdureError) -> WorkflowActivationJob:
    """Return the end of an activity that failed for good."""
    job = WorkflowActivationJob()
    job.resolve_activity.seq = activity.seq
    job.resolve_activity.is_local = activity.is_local
    failure = job.resolve_activity.result.failed.failure
    if activity.is_local:
        CONVERTER.failure_converter.to_failure(error, CONVERTER.payload_converter, failure)
        return job
    failure.message = "Activity task failed"
    failure.activity_failure_info.activity_type.name = activity.name
    CONVERTER.failure_converter.to_failure(error, CONVERTER.payload_converter, failure.cause)
    return job


def child_started(child: Child) -> WorkflowActivationJob:
    job = WorkflowActivationJob()
    job.resolve_child_workflow_execution_start.seq = child.seq
    job.resolve_child_workflow_execution_start.succeeded.run_id = f"run of {child.id}"
    return job


def child_ended(child: Child, result: Contract | PerdureError | None) -> WorkflowActivationJob:
    """Return the end of a child run: its result, its failure, or None where it was cancelled."""
    job = WorkflowActivationJob()
    job.resolve_child_workflow_execution.seq = child.seq
    end = ChildWorkflowResult()
    if isinstance(result, Contract):
        end.completed.result.CopyFrom(payload(result))
    else:
        failure = end.cancelled.failure if result is None else end.failed.failure
        failure.message = "Child Workflow execution failed"
        failure.child_workflow_execution_failure_info.workflow_execution.workflow_id = child.id
        if result is None:
            failure.cause.canceled_failure_info.SetInParent()
        else:
            CONVERTER.failure_converter.to_failure(result, CONVERTER.payload_converter, failure.cause)
    job.resolve_child_workflow_execution.result.CopyFrom(end)
    return job


def delivered(letter: Letter) -> WorkflowActivationJob:
    job = WorkflowActivationJob()
    job.resolve_signal_external_workflow.seq = letter.seq
    return job


def fired(timer: int) -> WorkflowActivationJob:
    job = WorkflowActivationJob()
    job.fire_timer.seq = timer
    return job


def kinds(commands: Sequence[WorkflowCommand]) -> list[str]:
    return [command.WhichOneof("variant") or "" for command in commands]


def _ignore(name: str) -> None:
    """Any local activity will do."""
