"""`PerdureClient`: start, follow and steer runs. Client side; what the command line can do, a service can."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from types import MappingProxyType
from typing import Any, cast
from uuid import uuid4

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError
from temporalio.client import (
    Client,
    WorkflowFailureError,
    WorkflowHandle,
    WorkflowQueryFailedError,
    WorkflowQueryRejectedError,
    WorkflowUpdateFailedError,
)
from temporalio.common import WorkflowIDConflictPolicy
from temporalio.exceptions import CancelledError, TerminatedError, WorkflowAlreadyStartedError
from temporalio.exceptions import TimeoutError as TemporalTimeoutError
from temporalio.service import RPCError, RPCStatusCode

from perdure._task_queues import has_pollers
from perdure.agents.registry import Registry
from perdure.client._attempts import AttemptReader
from perdure.client._attributes import StartAttributes
from perdure.client._children import ChildReader
from perdure.client._cost import CostBy, CostReport, read_costs
from perdure.client._diff import RunDiff, RunRead, common, common_turns, make_side, parting, read_side
from perdure.client._fork import ForkResult, fork
from perdure.client._fork_point import Content, ForkRequest
from perdure.client._limits import only_shared, shared_part, without_shared
from perdure.client._maps import MapItems, map_input, progress, whole_result
from perdure.client._partial import with_partial
from perdure.client._people import People
from perdure.client._plans import steered
from perdure.client._priority import run_priority
from perdure.client._report.page import render
from perdure.client._rerun import RerunResult, rerun
from perdure.client._runs import (
    RunInfo,
    closed,
    describe,
    first_start,
    is_closed,
    list_query,
    list_runs,
    not_found,
    to_info,
)
from perdure.client._scores import judged, read_table, send_judgement
from perdure.client._show import Money, RunDetails, details, money_now, money_of
from perdure.client._sizes import too_large
from perdure.client._starts import agent_start
from perdure.client._steering import make_request, send, set_paused
from perdure.client._timeline.data import Timeline
from perdure.client._timeline.read import Reach, read_timeline
from perdure.client._top import Top, look
from perdure.client._transcript import FullTranscript, TranscriptEntry, full_transcript, transcript
from perdure.client._tree import make_tree, plan_from_history, with_earlier
from perdure.client._turns import agents_run
from perdure.client._updates import UPDATE_TIMEOUT, deliver_update
from perdure.client._waits import WaitReader
from perdure.client._watch import WatchEvent, watch
from perdure.client.memories import MemoryReader
from perdure.client.schedules import Schedules
from perdure.contracts.limits import Limits
from perdure.contracts.map import MapProgress, MapResult, OnError
from perdure.contracts.messages import ContentPart
from perdure.contracts.money import MoneyStatus
from perdure.contracts.names import (
    AGENT_WORKFLOW,
    AMEND_PLAN_UPDATE,
    LIMIT_UPDATE,
    LIMITS_MEMO,
    MAP_QUERY,
    MAP_WORKFLOW,
    MONEY_QUERY,
    PLAN_QUERY,
    PLAN_WORKFLOW,
    RETRY_TASK_UPDATE,
)
from perdure.contracts.plan import AmendPlanRequest, PlanAmendment, PlanResult, PlanStatus, RetryTaskRequest
from perdure.contracts.run import RunResult
from perdure.contracts.scores import Outcome, ScoreTable, scoreboard_id
from perdure.contracts.steering import SendReceipt, Session
from perdure.contracts.times import TASK_TIMEOUT
from perdure.contracts.waits import ApprovalRule
from perdure.errors import (
    InvalidInputError,
    InvalidPlanError,
    NoWorkerError,
    PerdureError,
    RunCancelled,
    RunError,
    RunExistsError,
    RunTerminated,
    StillRunningError,
    revive,
)
from perdure.history import RunReader, read_output, read_run, readable_storage
from perdure.spending import SpendingReader
from perdure.telemetry.client import with_caller_context

_PLAN_TIMEOUT = timedelta(seconds=3)
"""For what is pleasant to see and no reason to wait."""


class StartedRun(BaseModel):
    """A run that was just started."""

    model_config = ConfigDict(frozen=True)

    workflow_id: str
    run_id: str


class PerdureClient(People):
    """Runs of agents, and of users' own workflows.

    Args:
        client: A connected Temporal client with the pydantic data converter.
        task_queue: Where the workers are.
        registry: The agents, if they are known here: then an unknown one is found before it is started.
        scoreboard: The workflow id of the scoreboard, where one is configured.
        update_timeout: For a run to take what it is told, such as a message, a decision or a limit, and to answer.
    """

    def __init__(
        self,
        client: Client,
        *,
        task_queue: str = "perdure",
        registry: Registry | None = None,
        scoreboard: str | None = None,
        update_timeout: timedelta = UPDATE_TIMEOUT,
    ) -> None:
        """Work with these."""
        self.temporal = client
        self.update_timeout = update_timeout
        self._starter = with_caller_context(client)
        self.task_queue = task_queue
        self._registry = registry
        self._scoreboard = scoreboard_id(scoreboard, task_queue)
        self._attributes = StartAttributes(client)
        self.memory = MemoryReader(client, task_queue=task_queue, update_timeout=update_timeout)
        self.schedules = Schedules(client, task_queue=task_queue, registry=registry, attributes=self._attributes)

    async def start_agent(
        self,
        agent: str,
        input: str | Sequence[ContentPart],
        *,
        id: str | None = None,
        limits: Limits | None = None,
        context: Mapping[str, JsonValue] | None = None,
        tenant: str = "",
        priority: int | None = None,
        approvals: Sequence[ApprovalRule] = (),
        session: Session | None = None,
    ) -> StartedRun:
        """Start an agent on an input.

        Args:
            agent: Its name.
            input: Text, or content parts.
            id: The workflow id; made from the agent's name when not given.
            limits: Over the agent's own.
            context: Values for instructions and tools; readable in Event History, so no secrets.
            tenant: Who the run is for; tenants get an even share of the workers.
            priority: 1 (first) to 5 (last), for all that the run does; 3 when None.
            approvals: Rules of this run and its subagents, before those of the app; they can't allow anything.
            session: Wait for the next message after an answer, in place of completing.

        Raises:
            UnknownAgentError, InvalidInputError: Not retryable.
            SettingsError: A rule makes no sense. Not retryable.
            PayloadTooLargeError: The input takes more than 1.5 MB, or 50 MB with external storage. Not retryable.
            RunExistsError: A run of that id is open. Not retryable.
        """
        start = agent_start(
            self.temporal,
            self._registry,
            agent,
            input,
            limits=limits,
            context=context,
            tenant=tenant,
            approvals=approvals,
            session=session,
        )
        return await self._start(
            start.workflow,
            start.args,
            id or _new_id(agent),
            start.summary,
            attributes=start.attributes,
            tenant=tenant,
            priority=priority,
        )

    async def start_workflow(
        self,
        workflow: str,
        args: Sequence[Any],
        *,
        id: str | None = None,
        limits: Limits | None = None,
        tenant: str = "",
        priority: int | None = None,
    ) -> StartedRun:
        """Start a workflow of the user's own, or a plan.

        Args:
            workflow: Its name.
            args: Its arguments.
            id: The workflow id; made from the workflow's name when not given.
            limits: Of money, tokens, calls and time, and `allow_unknown_prices`: all that it starts shares them.
            tenant: As for `start_agent`.
            priority: As for `start_agent`.

        Raises:
            InvalidInputError: Other limits are given. Not retryable.
            RunExistsError: A run of that id is open. Not retryable.
        """
        memo = {} if limits is None else {LIMITS_MEMO: only_shared(limits)}
        workflow_id = id or _new_id(workflow)
        return await self._start(
            workflow, args, workflow_id, workflow, memo=memo, tenant=tenant, priority=priority
        )

    async def start_map(
        self,
        agent: str,
        items: MapItems,
        *,
        max_parallel: int = 50,
        on_error: OnError = "fail",
        id: str | None = None,
        limits: Limits | None = None,
        context: Mapping[str, JsonValue] | None = None,
        tenant: str = "",
        priority: int | None = None,
    ) -> StartedRun:
        """Start an agent on each of many items, as `perdure.workflows.map_agent` does.

        Args:
            agent: Its name.
            items: Each a text, or content parts; at most 20,000 items and 1.5 MB.
            max_parallel: Runs of the agent open at once.
            on_error: `fail` ends it all at the first failure; `collect` goes on, and keeps failures as data.
            id: The workflow id; made from the agent's name when not given.
            limits: Those of money, tokens, calls and time are shared by all runs; the others hold for each, over
                the agent's own.
            context: Values for instructions and tools; readable in Event History, so no secrets.
            tenant: Who the runs are for; tenants get an even share of the workers.
            priority: 1 (first) to 5 (last), for all that the map does; 3 when None.

        Raises:
            UnknownAgentError, InvalidInputError, PayloadTooLargeError: Not retryable.
            RunExistsError: A run of that id is open. Not retryable.
        """
        if self._registry is not None:
            self._registry.agent(agent)
        request = map_input(
            agent,
            items,
            max_parallel=max_parallel,
            on_error=on_error,
            limits=None if limits is None else without_shared(limits),
            context=context,
            tenant=tenant,
        )
        summary = f"{agent} over {len(request.items)} items"
        workflow_id = id or _new_id(f"{agent}-map")
        memo = {} if limits is None else {LIMITS_MEMO: shared_part(limits)}
        return await self._start(
            MAP_WORKFLOW, [request], workflow_id, summary, memo=memo, tenant=tenant, priority=priority
        )

    async def map_progress(self, workflow_id: str) -> MapProgress:
        """Say where a map stands, or the maps of a workflow of the user's own; a worker must be up.

        Raises:
            RunNotFoundError: There is no such run. Not retryable.
            InvalidInputError: The run has no map. Not retryable.
            NoWorkerError: No worker answered within 10 seconds. Retryable.
        """
        return await _asked(workflow_id, MAP_QUERY, progress(self.temporal, workflow_id))

    async def _start(
        self,
        workflow: str,
        args: Sequence[Any],
        workflow_id: str,
        summary: str,
        *,
        attributes: Mapping[str, str] = MappingProxyType({}),
        memo: Mapping[str, Any] = MappingProxyType({}),
        tenant: str,
        priority: int | None,
    ) -> StartedRun:
        attributes = {"PerdureTenant": tenant, **attributes}
        has_attributes = any(attributes.values())
        try:
            handle = await self._starter.start_workflow(
                workflow,
                args=args,
                id=workflow_id,
                task_queue=self.task_queue,
                task_timeout=TASK_TIMEOUT,
                id_conflict_policy=WorkflowIDConflictPolicy.FAIL,
                static_summary=summary,
                memo=memo or None,
                search_attributes=await self._attributes.of(attributes) if has_attributes else None,
                priority=run_priority(workflow_id, tenant=tenant, priority=priority),
            )
        except RPCError as error:
            raise too_large(error, f"The input of {workflow}") from None
        except WorkflowAlreadyStartedError:
            raise RunExistsError(
                f"A run {workflow_id!r} is open: `perdure watch {workflow_id}` follows it; choose another id."
            ) from None
        return StartedRun(workflow_id=workflow_id, run_id=handle.result_run_id or "")

    async def result(self, workflow_id: str, *, timeout: timedelta | None = None) -> Any:
        """Wait for the end of a run, over all runs of its chain, and return what it gave.

        Returns:
            A `RunResult` for an agent's run, a `MapResult` for a map; else what the user's workflow returned.

        Raises:
            RunError: What the run failed with. Where it was cancelled or terminated, `attributes` has the model's
                last text, as `partial`. Not retryable.
            StillRunningError: Not over within `timeout`, which may be 0. Retryable.
            RunNotFoundError: There is no such run. Not retryable.
        """
        described = await describe(self.temporal, workflow_id)
        known: dict[str, type[Any]] = {
            AGENT_WORKFLOW: RunResult,
            MAP_WORKFLOW: MapResult,
            PLAN_WORKFLOW: PlanResult,
        }
        handle: WorkflowHandle[Any, Any] = self.temporal.get_workflow_handle(
            workflow_id, result_type=known.get(described.workflow_execution_info.type.name)
        )
        try:
            with readable_storage():
                value = await self._ended(handle, timeout)
        except WorkflowFailureError as error:
            failure = to_run_error(workflow_id, error)
            raise await with_partial(self.temporal, workflow_id, failure) from None
        except RPCError as error:
            raise not_found(error, workflow_id) from None
        if isinstance(value, RunResult) and value.output_slot is not None:
            output = await read_output(self.temporal, workflow_id)
            return value.model_copy(update={"output": output, "output_slot": None})
        return await whole_result(self.temporal, value) if isinstance(value, MapResult) else value

    async def _ended(self, handle: WorkflowHandle[Any, Any], timeout: timedelta | None) -> Any:
        """Wait for a result; that of a run which is over is had in no time."""
        try:
            async with asyncio.timeout(None if timeout is None else timeout.total_seconds()):
                return await handle.result()
        except TimeoutError:
            if not is_closed(await describe(self.temporal, handle.id)):
                raise StillRunningError(f"{handle.id!r} is still running; it goes on.") from None
        return await handle.result()

    async def list(
        self,
        *,
        status: str | None = None,
        state: str | None = None,
        agent: str | None = None,
        model: str | None = None,
        tenant: str | None = None,
        min_cost_usd: float | None = None,
        query: str | None = None,
        limit: int = 50,
    ) -> AsyncIterator[RunInfo]:
        """Yield runs, the latest first; the server chooses them.

        Args:
            status: Temporal's, such as `running`.
            state: perdure's, such as `waiting_approval`.
            agent: Its name.
            model: The one that the run was started with.
            tenant: Who it is for.
            min_cost_usd: What it has cost at least, as of the last change of its state; its children not counted.
            query: A visibility query of Temporal's.
            limit: At most so many.

        Raises:
            InvalidInputError: There is no such status or state, or the server can't use the query. Not retryable.
        """
        asked = list_query(
            status=status,
            state=state,
            agent=agent,
            model=model,
            tenant=tenant,
            min_cost_usd=min_cost_usd,
            extra=query,
        )
        async for info in list_runs(self.temporal, asked, limit):
            yield info

    async def show(self, workflow_id: str, *, depth: int = 2, is_all: bool = False) -> RunDetails:
        """Return a run in detail, and what is below it, from history: it needs no worker.

        Args:
            workflow_id: The run.
            depth: How many levels of its tree.
            is_all: Every child; else those in trouble or at work first, and the others by number.

        Raises:
            RunNotFoundError: There is no such run. Not retryable.
        """
        described = await describe(self.temporal, workflow_id)
        info = to_info(described.workflow_execution_info, self.temporal)
        converter = self.temporal.data_converter
        run, children, attempts = RunReader(converter), ChildReader(converter), AttemptReader(converter)
        spending = SpendingReader(converter)
        readers = (run, children, attempts, spending)
        handle = self.temporal.get_workflow_handle(workflow_id, run_id=info.run_id)
        async for event in handle.fetch_history_events():
            for reader in readers:
                await reader.read(event)
        found = await details(info, described, run.run, self.temporal)
        money = await self._money(info) or money_of(run.run, spending)
        since = await first_start(self.temporal, described)
        known = await with_earlier(self.temporal, info, list(children.children.values()), since)
        plan = await self._plan(info)
        if plan is None and children.plan is not None:
            plan = plan_from_history(info, children.plan, known)
        tree = await make_tree(self.temporal, info, known, plan, since=since, depth=depth, is_all=is_all)
        return found.model_copy(
            update={
                "failure": await self._failure(info),
                "plan": plan,
                "tree": tree,
                "money": money,
                "troubles": attempts.troubles(run.run.specs),
                "waits": tuple(await WaitReader(self.temporal).of_tree(info)),
            }
        )

    async def _money(self, info: RunInfo) -> Money | None:
        """Ask an open run how its limit stands: None when it has none, or nobody answers at once."""
        if info.status == "running":
            handle: WorkflowHandle[Any, Any] = self.temporal.get_workflow_handle(
                info.workflow_id, run_id=info.run_id
            )
            with suppress(RPCError, WorkflowQueryFailedError, WorkflowQueryRejectedError, ValidationError):
                if await has_pollers(self.temporal, info.task_queue):
                    answer = await handle.query(MONEY_QUERY, rpc_timeout=_PLAN_TIMEOUT)
                    return None if answer is None else money_now(MoneyStatus.model_validate(answer))
        return None

    async def _plan(self, info: RunInfo) -> PlanStatus | None:
        """Ask a workflow for its plan: None when it has none, or nobody answers at once."""
        if info.workflow in (AGENT_WORKFLOW, MAP_WORKFLOW):
            return None
        handle: WorkflowHandle[Any, Any] = self.temporal.get_workflow_handle(info.workflow_id, run_id=info.run_id)
        with suppress(RPCError, WorkflowQueryFailedError, WorkflowQueryRejectedError, ValidationError):
            if await has_pollers(self.temporal, info.task_queue):
                answer = await handle.query(PLAN_QUERY, rpc_timeout=_PLAN_TIMEOUT)
                return None if answer is None else PlanStatus.model_validate(answer)
        return None

    async def _failure(self, info: RunInfo) -> str:
        if info.status not in ("failed", "canceled", "terminated", "timed_out"):
            return ""
        handle: WorkflowHandle[Any, Any] = self.temporal.get_workflow_handle(info.workflow_id, run_id=info.run_id)
        try:
            await handle.result(follow_runs=False)
        except WorkflowFailureError as error:
            failure = to_run_error(info.workflow_id, error)
            return f"{failure.type}: {failure.message}"
        return ""

    async def transcript(self, workflow_id: str) -> "list[TranscriptEntry]":
        """Return a run's conversation as it is now, from history: it needs no worker.

        Raises:
            RunNotFoundError: There is no such run. Not retryable.
        """
        try:
            return transcript(await read_run(self.temporal, workflow_id))
        except RPCError as error:
            raise not_found(error, workflow_id) from None

    async def full_transcript(self, workflow_id: str) -> FullTranscript:
        """Return all that was said in a run: before its conversation was made shorter, and in the runs before it.

        Raises:
            RunNotFoundError: There is no such run. Not retryable.
        """
        return await full_transcript(self.temporal, workflow_id)

    async def trace(self, workflow_id: str, *, depth: int = 1, is_all: bool = False) -> Timeline:
        """Return what a run did and when, over its whole chain, and the runs below it: it needs no worker.

        Args:
            workflow_id: The run.
            depth: How many levels of child runs are read. Of those that aren't, their start and end are known.
            is_all: Every child run; else the first 20 of the run and 5 of each below, those in trouble or at work
                before those that are done.

        Raises:
            RunNotFoundError: There is no such run. Not retryable.
        """
        reach = Reach.everything(depth) if is_all else Reach(depth=depth)
        return (await read_timeline(self.temporal, workflow_id, reach=reach)).timeline

    async def top(self, *, limit: int = 20, agent: str | None = None, state: str | None = None) -> Top:
        """Look at what goes on: open runs, rates, spend, Task Queues and workers.

        Args:
            limit: Open runs to tell of, the latest first.
            agent: Of this agent alone.
            state: In this state alone.

        Raises:
            InvalidInputError: There is no such state, or the server can't use the query. Not retryable.
        """
        query = list_query(agent=agent, state=state)
        return await look(self.temporal, task_queues=[self.task_queue], limit=limit, query=query)

    async def report(self, workflow_id: str, *, depth: int = 2, is_all: bool = False) -> str:
        """Return a run as one HTML page that needs no network; from history, no worker is needed.

        Args:
            workflow_id: The run.
            depth: How many levels of child runs are read in.
            is_all: Every child run; else at most 200, those in trouble or at work before those that are done.

        Raises:
            RunNotFoundError: There is no such run. Not retryable.
        """
        reach = Reach.everything(depth) if is_all else Reach(depth=depth, first=100, below=20)
        return render(await read_timeline(self.temporal, workflow_id, reach=reach))

    def watch(self, workflow_id: str, *, with_tree: bool = False) -> AsyncIterator[WatchEvent]:
        """Yield what is there, then what comes, until the run is closed; with its tree, where that is wanted.

        Raises:
            RunNotFoundError: There is no such run. Not retryable.
        """
        return watch(self.temporal, workflow_id, ask_plan=self._plan if with_tree else None)

    async def query(self, workflow_id: str, name: str, *args: Any) -> Any:
        """Ask a run; a worker must be up.

        Raises:
            RunNotFoundError: There is no such run. Not retryable.
            InvalidInputError: The run can't answer that. Not retryable.
            NoWorkerError: No worker answered within 10 seconds. Retryable.
        """
        handle: WorkflowHandle[Any, Any] = self.temporal.get_workflow_handle(workflow_id)
        return await _asked(workflow_id, name, handle.query(name, args=args, rpc_timeout=timedelta(seconds=10)))

    async def signal(self, workflow_id: str, name: str, *args: Any) -> None:
        """Send a signal; unknown ones are accepted by the server, and ignored by the run.

        Raises:
            RunNotFoundError: There is no such run, or it is closed. Not retryable.
        """
        handle: WorkflowHandle[Any, Any] = self.temporal.get_workflow_handle(workflow_id)
        await _asked(workflow_id, name, handle.signal(name, args=args))

    async def update(self, workflow_id: str, name: str, *args: Any) -> Any:
        """Send an update, and wait for its result.

        Raises:
            RunNotFoundError: There is no such run, or it is closed. Not retryable.
            InvalidInputError: The run refused it. Not retryable.
            NoWorkerError: It wasn't done in `update_timeout`; it may be yet. Retryable.
        """
        return await self._update(workflow_id, name, args)

    async def _update(
        self,
        workflow_id: str,
        name: str,
        args: Sequence[Any],
        result_type: type[Any] | None = None,
        *,
        is_repeatable: bool = False,
    ) -> Any:
        call = deliver_update(
            self.temporal,
            workflow_id,
            name,
            args,
            result_type=result_type,
            is_repeatable=is_repeatable,
            timeout=self.update_timeout,
        )
        return await _asked(workflow_id, name, call)

    async def set_limits(self, workflow_id: str, limits: Limits) -> Limits:
        """Set limits of an open run; those that are None stay as they are. Runs that wait for them go on.

        Of a plan, a map or a workflow of the user's own: those that it shares with all below it, if it was started
        with such.

        Returns:
            All limits that hold now.

        Raises:
            RunNotFoundError: There is no such run, or it is closed. Not retryable.
            InvalidInputError: It can't have such a limit, or has spent more. Not retryable.
            NoWorkerError: It wasn't done in `update_timeout`; it may be yet. Retryable.
        """
        return await self._update(workflow_id, LIMIT_UPDATE, [limits], Limits, is_repeatable=True)

    async def send(
        self,
        workflow_id: str,
        message: str | Sequence[ContentPart],
        *,
        interrupt: bool = False,
        message_id: str | None = None,
    ) -> SendReceipt:
        """Send a user's message to an open run of an agent; it enters the conversation at the next turn.

        Args:
            workflow_id: The run.
            message: Text, or content parts; at most 250 kB.
            interrupt: Stop the model call in flight, keep what there is of its reply, and go on with the message.
                Tool calls in flight end first.
            message_id: Sent again with the same id, it is not entered twice; made when not given.

        Raises:
            RunNotFoundError: There is no such run, or it is closed. Not retryable.
            InvalidInputError: It is empty, or the run is none of an agent, or about to end. Not retryable.
            PayloadTooLargeError: The message is too large. Not retryable.
            InboxFullError: Too many messages wait for the run's next turn. Retryable.
            NoWorkerError: It wasn't taken in `update_timeout`; it may be yet. Retryable.
        """
        request = make_request(message, interrupt=interrupt, message_id=message_id)
        return await send(self.temporal, workflow_id, request, timeout=self.update_timeout)

    async def pause(self, workflow_id: str) -> None:
        """Let what a run has in flight end, and start nothing new, in it and in all that is below it.

        Raises:
            RunNotFoundError: There is no such run, or it is closed. Not retryable.
        """
        await set_paused(self.temporal, workflow_id, is_on=True)

    async def resume(self, workflow_id: str) -> None:
        """Let a paused run go on, and all that is below it.

        Raises:
            RunNotFoundError: There is no such run, or it is closed. Not retryable.
        """
        await set_paused(self.temporal, workflow_id, is_on=False)

    async def amend_plan(self, workflow_id: str, amendment: PlanAmendment, *, number: int = 0) -> PlanStatus:
        """Change a plan at work: add, replace and drop tasks that are neither running nor done.

        Args:
            workflow_id: The run that executes the plan.
            amendment: What is to change.
            number: Which plan of the run, from 1; the latest when 0.

        Returns:
            How the plan stands then.

        Raises:
            InvalidPlanError: It can't be applied, and nothing was; it tells every fault. Not retryable.
            RunNotFoundError: There is no such run, or it is closed. Not retryable.
            NoWorkerError: It wasn't done in `update_timeout`; it may be yet. Retryable.
        """
        request = AmendPlanRequest(amendment=amendment, number=number)
        return await self._steer(workflow_id, AMEND_PLAN_UPDATE, request)

    async def retry_task(self, workflow_id: str, task: str, *, number: int = 0) -> PlanStatus:
        """Run a failed or skipped task of a plan at work again; what was skipped for it waits again.

        Args:
            workflow_id: The run that executes the plan.
            task: The task's id. Of a skipped one, the failed ones that it was skipped for are run again.
            number: Which plan of the run, from 1; the latest when 0.

        Raises:
            InvalidInputError: It neither failed nor was skipped. Not retryable.
            RunNotFoundError: There is no such run, or it is closed. Not retryable.
            NoWorkerError: It wasn't done in `update_timeout`; it may be yet. Retryable.
        """
        return await self._steer(workflow_id, RETRY_TASK_UPDATE, RetryTaskRequest(task=task, number=number))

    async def _steer(self, workflow_id: str, name: str, request: Any) -> PlanStatus:
        return await steered(workflow_id, self._update(workflow_id, name, [request], PlanStatus))

    async def cost(self, *, since: timedelta | None = None, by: CostBy = "agent") -> CostReport:
        """Add up what agents have cost, in runs of their own and inline; no worker is needed.

        Args:
            since: Runs that started within this time; all that the server still has when None.
            by: What a row is for.
        """
        return await read_costs(self.temporal, since=since, by=by)

    async def scoreboard(self, *, kind: str | None = None) -> ScoreTable:
        """Return what became of work, by kind and by agent or model; nothing while there was none.

        Args:
            kind: Only work of this kind.

        Raises:
            NoWorkerError: No worker answered within 10 seconds. Retryable.
        """
        call = read_table(self.temporal, self._scoreboard, kind)
        table: ScoreTable = await _asked(self._scoreboard, "perdure.scoreboard", call)
        return table

    async def score(self, workflow_id: str, score: float, *, note: str = "") -> Outcome:
        """Add a person's judgement of an agent's run to the scoreboard; no worker is needed.

        Args:
            workflow_id: The run.
            score: From 0, bad, to 1, good.
            note: What there is to say about it.

        Returns:
            What the scoreboard was told.

        Raises:
            RunNotFoundError: There is no such run. Not retryable.
            InvalidInputError: It is no run of an agent, or the score is out of range. Not retryable.
        """
        outcome = await judged(self.temporal, workflow_id, score, note)
        await send_judgement(self.temporal, self._scoreboard, self.task_queue, outcome)
        return outcome

    async def cancel(self, workflow_id: str) -> None:
        """Ask a run to end; it stops what it does, and cleans up.

        Raises:
            RunNotFoundError: There is no such run, or it is closed. Not retryable.
        """
        if is_closed(await describe(self.temporal, workflow_id)):
            raise closed(workflow_id)  # to the server that is no error
        await _asked(workflow_id, "cancel", self.temporal.get_workflow_handle(workflow_id).cancel())

    async def rerun(
        self, workflow_id: str, *, limits: Limits | None = None, is_repeating: bool = False
    ) -> RerunResult:
        """Start a run again that failed, was cancelled or terminated, or ran out of time, from what is good of it.

        No finished model or tool call of an agent is made again, no finished task of a plan and no item of a map.

        Args:
            workflow_id: The run.
            limits: Over those that it had; for an agent's run.
            is_repeating: Let a workflow of the user's own call tools again that aren't idempotent.

        Raises:
            RunNotFoundError: There is no such run, or its time of retention is over. Not retryable.
            InvalidInputError: It is open or complete, is part of another, or is at a limit. Not retryable.
            StillRunningError: Runs below it are not over yet. Retryable.
        """
        described = await describe(self.temporal, workflow_id)
        failure = await self._failure(to_info(described.workflow_execution_info, self.temporal))
        return await rerun(self.temporal, workflow_id, limits=limits, is_repeating=is_repeating, failure=failure)

    async def fork(
        self,
        workflow_id: str,
        *,
        turn: int | None = None,
        message: Content | None = None,
        model: str | Sequence[str] = (),
        instructions: str | None = None,
        tool_results: Mapping[str, Content] | None = None,
        limits: Limits | None = None,
        id: str | None = None,
    ) -> ForkResult:
        """Start a new run whose conversation begins with the first turns of another, open or closed.

        Nothing of these turns is asked or done again. The fork is pinned to what the other run was pinned to, but
        for what is given here; its limits count what it does itself.

        Args:
            workflow_id: The run to fork.
            turn: The last turn to keep, counted over the whole conversation; 0 for none. When None, the last after
                which the model has something to do.
            message: What the user says next, in place of what users said then.
            model: In place of the model and its fallbacks.
            instructions: In place of the agent's.
            tool_results: Results of the last turn's tool calls, by the call's id, or its tool's name.
            limits: Over those of the other run.
            id: The workflow id of the fork; made from the other's when not given.

        Raises:
            RunNotFoundError: There is no such run. Not retryable.
            InvalidInputError: It has no such turn, or the model would have nothing to do. Not retryable.
            UnknownModelError, PayloadTooLargeError: Not retryable.
            RunExistsError: There is a run of the fork's id. Not retryable.
        """
        request = ForkRequest(
            workflow_id=workflow_id,
            turn=turn,
            message=message,
            models=(model,) if isinstance(model, str) else tuple(model),
            instructions=instructions,
            tool_results=tool_results or {},
            limits=limits,
            id=id,
        )
        return await fork(self.temporal, request, self._attributes)

    async def diff(self, a: str, b: str) -> RunDiff:
        """Compare two runs of agents, open or closed, from history: it needs no worker.

        Raises:
            RunNotFoundError: There is no such run. Not retryable.
            InvalidInputError: One is no run of an agent. Not retryable.
        """
        reads = [await self._read_side(workflow_id) for workflow_id in (a, b)]
        said, others = (read.messages for read in reads)
        place = common(said, others)
        sides = [make_side(read, place, await self._output(read.info)) for read in reads]
        return RunDiff(
            a=sides[0],
            b=sides[1],
            common_messages=place,
            common_turns=common_turns(said, place),
            parting=parting(said, others, place),
        )

    async def _read_side(self, workflow_id: str) -> RunRead:
        await agents_run(self.temporal, workflow_id)
        return await read_side(self.temporal, workflow_id, await self.show(workflow_id, depth=0))

    async def _output(self, info: RunInfo) -> JsonValue:
        """Return the output of an agent's run, if it completed."""
        if info.status != "completed":
            return None
        result: RunResult = await self.result(info.workflow_id)
        return result.output

    async def terminate(self, workflow_id: str, *, reason: str) -> None:
        """End a run at once; nothing of it is asked.

        Raises:
            RunNotFoundError: There is no such run, or it is closed. Not retryable.
        """
        handle: WorkflowHandle[Any, Any] = self.temporal.get_workflow_handle(workflow_id)
        await _asked(workflow_id, "terminate", handle.terminate(reason=reason))


async def _asked(workflow_id: str, name: str, call: Any) -> Any:
    try:
        with readable_storage():
            return await call
    except (WorkflowQueryFailedError, WorkflowQueryRejectedError) as error:
        raise InvalidInputError(f"Run {workflow_id!r} can't answer {name!r}: {error}") from None
    except WorkflowUpdateFailedError as error:
        reason = revive(error.cause) if error.cause else error
        if isinstance(reason, InvalidPlanError):
            raise reason from None
        raise InvalidInputError(f"Run {workflow_id!r} refused {name!r}: {reason}") from None
    except RPCError as error:
        if error.status in (RPCStatusCode.DEADLINE_EXCEEDED, RPCStatusCode.CANCELLED):
            raise _no_worker(workflow_id, name) from None
        refused = too_large(error, f"What {name!r} is given")
        raise (not_found(error, workflow_id) if refused is error else refused) from None


def _no_worker(workflow_id: str, name: str) -> NoWorkerError:
    return NoWorkerError(
        f"No worker answered {name!r} for run {workflow_id!r} in time; start one with `perdure worker`."
    )


def to_run_error(workflow_id: str, error: WorkflowFailureError) -> PerdureError:
    """Return the typed error that a run failed with."""
    cause = error.cause
    match cause:
        case CancelledError():
            return RunCancelled(f"The run {workflow_id!r} was cancelled.")
        case TerminatedError():
            return RunTerminated(f"The run {workflow_id!r} was terminated: {cause.message}.")
        case TemporalTimeoutError():
            return RunTerminated(f"The run {workflow_id!r} did not end within its time.")
        case _:
            revived = revive(cause)
            if isinstance(revived, PerdureError):
                return revived
            kind = cast("str | None", getattr(cause, "type", None)) or type(cause).__name__
            return RunError(f"{kind}: {getattr(cause, 'message', cause)}", failure=kind)


def _new_id(name: str) -> str:
    return f"{name}-{uuid4().hex[:12]}"
