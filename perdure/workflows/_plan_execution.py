"""A plan at work: its tasks as child runs, and changes to it meanwhile. Workflow side.

What may start, and what an end means for others, is decided by `PlanState`; here is what takes time.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any

from pydantic import JsonValue
from pydantic_core import to_json
from temporalio import workflow
from temporalio.exceptions import ActivityError, FailureError, is_cancelled_exception

from perdure.agents.amendments import check_amendment
from perdure.agents.plans import agents_of, invalid_plan
from perdure.contracts.calls import ReadOutputRequest
from perdure.contracts.limits import Limits
from perdure.contracts.messages import ArtifactPart, InputPart, TextPart
from perdure.contracts.plan import (
    AUTO,
    ArtifactValue,
    CheckPlanRequest,
    CheckPlanResult,
    PlanAmendment,
    PlanFault,
    PlanStatus,
    Task,
    TaskFailure,
)
from perdure.contracts.references import Reference
from perdure.contracts.run import RunInput, RunResult
from perdure.errors import (
    InvalidInputError,
    PayloadTooLargeError,
    PerdureError,
    PlanFailed,
    RunCancelled,
    TaskFailed,
    suggest,
)
from perdure.workflows._calls import check_plan, read_output
from perdure.workflows._funding import run_funded
from perdure.workflows._guard import typed_activity_failure
from perdure.workflows._host import current_host
from perdure.workflows._outgoing import PlanPace
from perdure.workflows._plan_state import PlanState
from perdure.workflows._planning import ask_replanner
from perdure.workflows.gathering import to_failure
from perdure.workflows.selecting import choose, note_failure, note_success, request_of, told

_MAX_INPUT_BYTES = 1_500_000
_MAX_CARRIED_BYTES = 200_000
_MAX_MESSAGE_CHARS = 5_000


class Execution:
    """One plan at work."""

    def __init__(
        self,
        state: PlanState,
        *,
        number: int,
        known: CheckPlanResult,
        goal: str,
        max_parallel: int,
        on_change: Callable[[PlanState], None],
    ) -> None:
        """Work on `state`.

        Args:
            state: The plan.
            number: Which plan of the workflow it is.
            known: The agents that there are.
            goal: What the plan is for.
            max_parallel: Tasks at work at once.
            on_change: Told of each change.
        """
        prefix = f"{workflow.info().workflow_id}/plan-{number}"
        self._number = number
        self._known = known
        self._goal = goal
        self._state = state
        self._prefix = prefix
        self._max_parallel = max_parallel
        self._on_change = on_change
        self._pace = PlanPace()
        self._running: dict[asyncio.Task[RunResult], str] = {}
        self._errors: dict[str, BaseException] = {}
        self._since: dict[str, datetime] = {}
        self._is_stopping = False
        self._is_over = False
        self._replanning: asyncio.Task[None] | None = None
        self._bell: asyncio.Future[None] = asyncio.Future()

    def status(self) -> PlanStatus:
        """Return how the plan stands."""
        return self._state.status(self._number)

    def artifact(self, name: str) -> ArtifactValue | None:
        """Return an artifact, or where it is; None while there is none."""
        return self._state.artifact(name)

    def ring(self) -> None:
        """Have the plan looked at again: somebody has changed it."""
        if not self._bell.done():
            self._bell.set_result(None)

    async def run(self) -> None:
        """Work until every task is over."""
        try:
            while self._start():
                await self._next_event()
                if self._state.failed is not None:
                    await self._stop()
                    raise self._plan_failed(self._state.failed) from self._errors.get(self._state.failed.task)
        except (Exception, asyncio.CancelledError):
            await self._stop()
            raise
        finally:
            self._is_over = True

    def _start(self) -> bool:
        """Start what may start, and say whether there is anything to wait for."""
        if self._replanning is None and (failure := self._state.take_replan()) is not None:
            self._replanning = asyncio.create_task(self._replan(failure))
        if self._state.failed is not None:
            return True
        return self._start_ready() or self._replanning is not None

    async def _next_event(self) -> None:
        """Wait for an end, or a change, and enter it."""
        if self._state.failed is not None:
            return
        waited: list[asyncio.Future[Any]] = [*self._running, self._bell]
        if self._replanning is not None:
            waited.append(self._replanning)
        await workflow.wait(waited, return_when=asyncio.FIRST_COMPLETED)
        if self._bell.done():
            self._bell = asyncio.Future()
        for task in [task for task in self._running if task.done()]:
            self._settle(task, self._running.pop(task))
        if self._replanning is not None and self._replanning.done():
            ended, self._replanning = self._replanning, None
            ended.result()

    async def _replan(self, failure: TaskFailure) -> None:
        """Have the planner change the plan. When it can't, the failure that it was asked for ends the plan."""
        known = self._state.to_replan
        try:
            amendment = await ask_replanner(self._state, self._goal, known, workflow_id=self._replan_id())
            faults = await self._faults(amendment)
            if self._is_stopping:
                return  # the planner was done before its cancellation came
            if not faults:
                self._state.amend(amendment)
                self._state.end_replan(known)
            else:  # the plan was changed meanwhile: the planner is asked again
                self._state.is_held = False
        except FailureError as error:
            if is_cancelled_exception(error):
                raise
            self._state.failed = failure.model_copy(
                update={"message": f"{failure.message} Replanning failed: {to_failure(error).message}"}
            )

    def _replan_id(self) -> str:
        return f"{self._prefix}-replan-{self._state.replans}"

    async def _faults(self, amendment: PlanAmendment) -> list[PlanFault]:
        """Return what keeps an amendment from being applied, with the agents of today."""
        tasks = self._state.status(self._number).tasks
        request = CheckPlanRequest(plan=self._state.plan, amendment=amendment, tasks=tasks)
        with typed_activity_failure():
            faults = list((await check_plan(request)).faults)
        return faults or check_amendment(self._state.plan, amendment, self._state.states(), None)

    def check_amendment(self, amendment: PlanAmendment) -> None:
        """Raise what `amend` does, as far as that is known without asking for the agents of today."""
        self.check_open()
        plan, states = self._state.plan, self._state.states()
        named = {name for task in amendment.tasks for name in agents_of(task)}
        if named - set(self._known.agents) or {each.verify for each in amendment.tasks} - {
            *self._known.verifiers,
            "",
        }:
            return  # deployed since, or a mistake: the check with the agents of today tells it with the rest
        faults = check_amendment(plan, amendment, states, None)
        if faults:
            raise invalid_plan(faults, what="The amendment")

    async def amend(self, amendment: PlanAmendment) -> None:
        """Apply an amendment from outside.

        Raises:
            InvalidPlanError: It can't be applied, for these faults. Not retryable.
        """
        self.check_open()
        faults = await self._faults(amendment)
        self.check_open()
        if faults:
            raise invalid_plan(faults, what="The amendment")
        self._state.amend(amendment)
        self.ring()

    def retry(self, name: str) -> None:
        """Let a task that failed or was skipped run again.

        Raises:
            InvalidInputError: It can't, and why. Not retryable.
        """
        self.check_retry(name)
        self._state.retry(name)
        self.ring()

    def check_retry(self, name: str) -> None:
        """Raise InvalidInputError where a task can't be run again."""
        self.check_open()
        states = self._state.states()
        if name not in states:
            raise InvalidInputError(f"The plan has no task {name!r}.{suggest(name, states)}")
        if states[name] not in ("failed", "skipped"):
            raise InvalidInputError(
                f"Task {name!r} is {states[name]}: only one that failed or was skipped is run again."
            )

    def check_open(self) -> None:
        """Raise InvalidInputError when the plan is over, or ends."""
        if self._is_over or self._is_stopping:
            raise InvalidInputError(
                f"The plan is over: `perdure rerun {workflow.info().workflow_id}` starts its run again, and keeps "
                "what is done."
            )

    def _start_ready(self) -> bool:
        """Start what may start, and say whether anything is at work."""
        while len(self._running) < self._max_parallel:
            name = self._state.take()
            if name is None:
                break
            self._running[asyncio.create_task(self._do(name))] = name
        self._on_change(self._state)
        return bool(self._running)

    async def _do(self, name: str) -> RunResult:
        """Run a task once."""
        task, attempt = self._state.task(name), self._state.attempt_of(name)
        given = await self._input(name, self._state.agent_of(name))
        agent = await self._agent(task, given)
        request = RunInput(
            agent=agent,
            input=given,
            limits=task.limits or Limits(),
            context=task.context,
            depth=current_host().depth,
            verify=task.verify,
            task_kind=task.kind,
        )
        size = len(request.to_bytes())
        if size > _MAX_INPUT_BYTES:
            raise PayloadTooLargeError(
                f"agent {agent!r} was not started: with the results that it refers to, the task's input takes "
                f"{size} bytes, more than {_MAX_INPUT_BYTES}. Refer to fields of them, or have them summarised."
            )
        await self._pace.pass_through(size)
        workflow_id = f"{self._prefix}/{name}" + (f".{attempt}" if attempt > 1 else "")
        self._state.note_run(name, workflow_id)
        self._since[name] = workflow.now()
        return await run_funded(request, current_host().funds.account, workflow_id=workflow_id)

    async def _agent(self, task: Task, given: Sequence[InputPart]) -> str:
        """Return who does a task now, and choose where the plan leaves that open."""
        agent = self._state.agent_of(task.id)
        if agent != AUTO:
            return agent
        text = "".join(
            part.text if isinstance(part, TextPart) else getattr(part, "reference", "") for part in given
        )
        chosen = await choose(request_of(task, text))
        self._state.note_choice(task.id, chosen.agent, told(chosen))
        return chosen.agent

    async def _input(self, name: str, agent: str) -> tuple[InputPart, ...]:
        read = {each: await self._read(each, agent) for each in self._state.outputs_apart(name)}
        try:
            pieces = self._state.input_of(name, read)
        except LookupError as error:
            raise InvalidInputError(f"agent {agent!r} was not started: {error.args[0]}.") from None
        return tuple(TextPart(text=each) if isinstance(each, str) else self._artifact(each) for each in pieces)

    def _artifact(self, reference: Reference) -> ArtifactPart:
        info = workflow.info()
        return ArtifactPart(
            workflow_id=info.workflow_id,
            run_id=info.run_id,
            plan=self._number,
            name=reference.path[0],
            path=reference.path[1:],
        )

    async def _read(self, name: str, agent: str) -> JsonValue:
        """Return an output that was too large for its run's result; at most 1 MiB."""
        try:
            return (await read_output(ReadOutputRequest(workflow_id=self._state.run_of(name)))).output
        except ActivityError as error:
            if is_cancelled_exception(error):
                raise
            raise PayloadTooLargeError(
                f"agent {agent!r} was not started: its input refers to task {name!r}, whose result can't be read: "
                f"it is too large, or its run is gone. Have {name!r} put it where a tool can read it."
            ) from error

    def _settle(self, task: "asyncio.Task[RunResult]", name: str) -> None:
        """Enter the end of a task. Raises what is no failure but a defect."""
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        if error is None:
            result = task.result()
            self._note_success(name, result)
            self._finish(name, result)
        elif self._is_stopping and is_cancelled_exception(error):
            self._state.cancel(name)
        else:
            self._errors[name] = error
            self._note_failure(name, error)
            self._state.fail(name, self._failure(name, error))

    def _note_success(self, name: str, result: RunResult) -> None:
        agent, kind = self._state.agent_of(name), self._state.task(name).kind
        usage, since = result.counters.usage, self._since.pop(name)
        note_success(agent, kind, usage, since, model=result.model, score=result.score)

    def _note_failure(self, name: str, error: BaseException) -> None:
        since = self._since.pop(name, None)  # None where its run was not started
        if since is not None:
            note_failure(self._state.agent_of(name), self._state.task(name).kind, error, since)

    def _finish(self, name: str, result: RunResult) -> None:
        is_apart = result.output_slot is not None
        missing = None if is_apart else self._state.missing_artifact(name, result.output)
        if missing is None:
            self._state.finish(name, result.output, is_apart=is_apart)
            return
        agent = self._state.agent_of(name)
        error = TaskFailed(f"agent {agent!r}: its output has no {missing!r}, which the task should produce.")
        self._errors[name] = error
        self._state.fail(name, self._failure(name, error))

    def _failure(self, name: str, error: BaseException) -> TaskFailure:
        agent = self._state.agent_of(name)
        failure: PerdureError
        if is_cancelled_exception(error):
            failure = RunCancelled(f"agent {agent!r}: its run was cancelled.")
        else:
            failure = to_failure(error)
        kind, message = type(failure).__name__, failure.message
        if len(message) > _MAX_MESSAGE_CHARS:
            message = f"{message[:_MAX_MESSAGE_CHARS]}…"
        return TaskFailure(task=name, agent=agent, type=kind, message=message)

    async def _stop(self) -> None:
        """Cancel what is at work, and wait for its end."""
        self._is_stopping = True
        self._state.stop()
        open_tasks: list[asyncio.Task[Any]] = [*self._running]
        if self._replanning is not None:
            open_tasks.append(self._replanning)
        for task in open_tasks:
            task.cancel()
        if open_tasks:
            await workflow.wait(open_tasks, return_when=asyncio.ALL_COMPLETED)
        self._replanning = None
        for task, name in self._running.items():
            with suppress(Exception):  # a second defect; the first is on its way
                self._settle(task, name)
        self._running.clear()
        self._on_change(self._state)

    def _plan_failed(self, failure: TaskFailure) -> PlanFailed:
        tasks = self._state.result().tasks
        results: dict[str, Any] = {}
        left = _MAX_CARRIED_BYTES
        for each in tasks:
            size = len(to_json(each.output))
            if each.state == "done" and not each.is_output_apart and size <= left:
                results[each.id] = each.output
                left -= size
        return PlanFailed(
            f"task {failure.task!r}: {failure.message}",
            task=failure.task,
            agent=failure.agent,
            failure=failure.type,
            workflow_id=self._state.run_of(failure.task),
            states={each.id: each.state for each in tasks},
            results=results,
        )
