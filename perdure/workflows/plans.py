"""`run_plan`: a plan's tasks, each in a run of its own, started as soon as its needs are met. Workflow side."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

from pydantic import JsonValue
from pydantic_core import to_json
from temporalio import workflow
from temporalio.exceptions import ActivityError, is_cancelled_exception

from perdure.agents.plans import invalid_plan
from perdure.contracts.calls import ReadOutputRequest
from perdure.contracts.limits import Limits
from perdure.contracts.messages import TextPart
from perdure.contracts.plan import AUTO, CheckPlanRequest, Plan, PlanResult, Task, TaskFailure
from perdure.contracts.run import RunInput, RunResult
from perdure.errors import (
    InvalidInputError,
    PayloadTooLargeError,
    PerdureError,
    PlanFailed,
    RunCancelled,
    revive,
)
from perdure.workflows._calls import check_plan, read_output
from perdure.workflows._host import current_host
from perdure.workflows._plan_state import PlanState
from perdure.workflows._subagents import run_child
from perdure.workflows.gathering import to_failure
from perdure.workflows.selecting import choose, note_failure, note_success, request_of, told

MAX_PARALLEL = 50
_MAX_PARALLEL = 200
_MAX_INPUT_BYTES = 1_500_000
_MAX_CARRIED_BYTES = 200_000
_MAX_MESSAGE_CHARS = 5_000
_BATCH_BYTES = 2_000_000
"""Inputs that leave in one workflow task: the server ends a run whose task is over 4 MB."""
_BATCH_CHILDREN = 50


async def run_plan(plan: Plan, *, max_parallel: int | None = None) -> PlanResult:
    """Execute a plan: each task is a child run, and starts the moment that its needs are over.

    Cancelling the workflow cancels every task at work, and waits for the end of each.

    Args:
        plan: At most 1000 tasks.
        max_parallel: Tasks at work at once, 1 to 200; the plan's own when None, and 50 when it has none.

    Returns:
        What became of every task. Where a task's policy is not `fail`, look for `failures`.

    Raises:
        InvalidPlanError: The plan can't be executed; nothing has run. It tells every fault. Not retryable.
        PlanFailed: A task failed whose policy is `fail`. The others were cancelled, and are over. Not retryable.
    """
    return (await execute_plan(plan, max_parallel=max_parallel, on_change=lambda _: None)).result()


async def execute_plan(
    plan: Plan, *, max_parallel: int | None, on_change: Callable[[PlanState], None]
) -> PlanState:
    """Do what `run_plan` does, and tell of each change. Raises what `run_plan` does."""
    at_once = max_parallel or plan.max_parallel or MAX_PARALLEL
    if not 1 <= at_once <= _MAX_PARALLEL:
        raise InvalidInputError(f"max_parallel is {at_once}: it should be between 1 and {_MAX_PARALLEL}.")
    await _check(plan)
    host = current_host()
    number = host.number("plan ")
    state = PlanState(plan)
    host.add_plan(lambda: state.status(number))
    prefix = f"{workflow.info().workflow_id}/plan-{number}"
    await _Execution(state, prefix=prefix, max_parallel=at_once, on_change=on_change).run()
    return state


async def _check(plan: Plan) -> None:
    try:
        faults = (await check_plan(CheckPlanRequest(plan=plan))).faults
    except ActivityError as error:
        if is_cancelled_exception(error) or error.cause is None:
            raise
        raise revive(error.cause) from None
    if faults:
        raise invalid_plan(faults)


class _Execution:
    """One plan at work."""

    def __init__(
        self, state: PlanState, *, prefix: str, max_parallel: int, on_change: Callable[[PlanState], None]
    ) -> None:
        self._state = state
        self._prefix = prefix
        self._max_parallel = max_parallel
        self._on_change = on_change
        self._outgoing = _Outgoing()
        self._running: dict[asyncio.Task[RunResult], str] = {}
        self._errors: dict[str, BaseException] = {}
        self._since: dict[str, datetime] = {}
        self._is_stopping = False

    async def run(self) -> None:
        """Work until every task is over."""
        try:
            while self._start_ready():
                done, _ = await workflow.wait(list(self._running), return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    self._settle(task, self._running.pop(task))
                if self._state.failed is not None:
                    await self._stop()
                    raise self._plan_failed(self._state.failed) from self._errors[self._state.failed.task]
        except (Exception, asyncio.CancelledError):
            await self._stop()
            raise

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
        text = await self._input(name, self._state.agent_of(name))
        agent = await self._agent(task, text)
        request = RunInput(
            agent=agent,
            input=(TextPart(text=text),),
            limits=task.limits or Limits(),
            context=task.context,
            depth=current_host().depth,
            task_kind=task.kind,
        )
        size = len(request.to_bytes())
        if size > _MAX_INPUT_BYTES:
            raise PayloadTooLargeError(
                f"agent {agent!r} was not started: with the results that it refers to, the task's input takes "
                f"{size} bytes, more than {_MAX_INPUT_BYTES}. Refer to fields of them, or have them summarised."
            )
        await self._outgoing.pass_through(size)
        workflow_id = f"{self._prefix}/{name}" + (f".{attempt}" if attempt > 1 else "")
        self._state.note_run(name, workflow_id)
        self._since[name] = workflow.now()
        return await run_child(request, workflow_id=workflow_id)

    async def _agent(self, task: Task, text: str) -> str:
        """Return who does a task now, and choose where the plan leaves that open."""
        agent = self._state.agent_of(task.id)
        if agent != AUTO:
            return agent
        chosen = await choose(request_of(task, text))
        self._state.note_choice(task.id, chosen.agent, told(chosen))
        return chosen.agent

    async def _input(self, name: str, agent: str) -> str:
        read = {each: await self._read(each, agent) for each in self._state.outputs_apart(name)}
        try:
            return self._state.input_of(name, read)
        except LookupError as error:
            raise InvalidInputError(f"agent {agent!r} was not started: {error.args[0]}.") from None

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
            self._state.finish(name, result.output, is_apart=result.output_slot is not None)
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
        for task in self._running:
            task.cancel()
        if self._running:
            await workflow.wait(list(self._running), return_when=asyncio.ALL_COMPLETED)
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


class _Outgoing:
    """Holds back what would make the commands of one workflow task too large."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._task = -1
        self._bytes = 0
        self._children = 0

    async def pass_through(self, size: int) -> None:
        """Return when a child with an input of `size` bytes may be started."""
        async with self._lock:
            self._note_task()
            if self._children and (self._bytes + size > _BATCH_BYTES or self._children >= _BATCH_CHILDREN):
                await workflow.sleep(timedelta(milliseconds=1))
                self._note_task()
            self._bytes += size
            self._children += 1

    def _note_task(self) -> None:
        """Count anew when a workflow task has begun since."""
        task = workflow.info().get_current_history_length()
        if task != self._task:
            self._task, self._bytes, self._children = task, 0, 0
