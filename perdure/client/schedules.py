"""Schedules of runs, on Temporal Schedules. Client side; Temporal keeps them, and starts the runs.

A run that a schedule starts gets what `PerdureClient.start_agent` gives: search attributes, summary, task timeout,
priority. The agent is named, not pinned, so that each run has the agent of its day.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, JsonValue
from temporalio.client import (
    Client,
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleAlreadyRunningError,
    ScheduleIntervalSpec,
    ScheduleOverlapPolicy,
    SchedulePolicy,
    ScheduleSpec,
    ScheduleState,
)
from temporalio.service import RPCError, RPCStatusCode

from perdure.agents.registry import Registry
from perdure.client._attributes import StartAttributes
from perdure.client._priority import run_priority
from perdure.client._schedule_info import MEMO, ScheduleDetails, ScheduleInfo, ScheduleMemo, details_of, info_of
from perdure.client._starts import RunStart, agent_start
from perdure.contracts.limits import Limits
from perdure.contracts.messages import ContentPart
from perdure.contracts.times import TASK_TIMEOUT
from perdure.errors import InvalidInputError

Overlap = Literal["skip", "buffer_one", "buffer_all", "cancel_other", "terminate_other", "allow_all"]
"""What happens when a run is due while the one before is open; Temporal's policies."""

_TRIGGER_SECONDS = 10.0
_SHORTEST = timedelta(seconds=1)


class Triggered(BaseModel):
    """What became of a run that was asked for out of turn."""

    model_config = ConfigDict(frozen=True)

    schedule: str
    workflow_id: str = ""
    """Empty where no run was started."""
    note: str = ""
    """Why not, as far as that is known."""


class Schedules:
    """The schedules of a namespace; `PerdureClient.schedules`."""

    def __init__(
        self, client: Client, *, task_queue: str, registry: Registry | None, attributes: StartAttributes
    ) -> None:
        """Work with these."""
        self._client = client
        self._task_queue = task_queue
        self._registry = registry
        self._attributes = attributes

    async def create(
        self,
        name: str,
        *,
        agent: str = "",
        input: str | Sequence[ContentPart] = "",
        workflow: str = "",
        args: Sequence[Any] = (),
        cron: str | Sequence[str] = (),
        every: timedelta | None = None,
        time_zone: str = "",
        overlap: Overlap = "skip",
        jitter: timedelta | None = None,
        catch_up: timedelta | None = None,
        limits: Limits | None = None,
        context: Mapping[str, JsonValue] | None = None,
        tenant: str = "",
        priority: int | None = None,
        paused: bool = False,
        note: str = "",
    ) -> ScheduleInfo:
        """Create a schedule that starts an agent, or a workflow of the user's own.

        Args:
            name: Of the schedule; runs are named after it, and the time that they were due.
            agent: The agent to start. What it is, is looked up at each start.
            input: Its input.
            workflow: The workflow to start, in place of an agent.
            args: Its arguments.
            cron: One or more cron expressions, of five to seven fields, or such as `@daily`.
            every: A period, in place of `cron` or beside it; counted from 1970-01-01 UTC.
            time_zone: Of the cron expressions, such as `Europe/Berlin`; UTC when empty.
            overlap: What happens when a run is due while the one before is open.
            jitter: Each start is put off by up to so long, at random.
            catch_up: Runs that were due while the server was down are started up to so late; a year when None.
            limits: Of each run, over the agent's own.
            context: Values for instructions and tools; readable in Event History, so no secrets.
            tenant: Who the runs are for.
            priority: 1 (first) to 5 (last), for all that the runs do; 3 when None.
            paused: Begin paused.
            note: What there is to say about it.

        Raises:
            UnknownAgentError, PayloadTooLargeError: Not retryable.
            InvalidInputError: It says neither when nor what, Temporal can't use it, or there is one of that name.
                Not retryable.
        """
        start = self._to_start(agent, input, workflow, args, limits=limits, context=context, tenant=tenant)
        spec = _spec(cron, every, time_zone=time_zone, jitter=jitter)
        schedule = Schedule(
            action=ScheduleActionStartWorkflow(
                start.workflow,
                args=start.args,
                id=name,
                task_queue=self._task_queue,
                task_timeout=TASK_TIMEOUT,
                static_summary=start.summary,
                typed_search_attributes=await self._attributes.of(start.attributes),
                priority=run_priority(name, tenant=tenant, priority=priority),
            ),
            spec=spec,
            policy=SchedulePolicy(overlap=ScheduleOverlapPolicy[overlap.upper()], catchup_window=catch_up),
            state=ScheduleState(paused=paused, note=note or None),
        )
        memo = ScheduleMemo(
            agent=agent,
            cron=tuple(spec.cron_expressions),
            every_seconds=None if every is None else every.total_seconds(),
        )
        try:
            await self._client.create_schedule(name, schedule, memo={MEMO: memo})
        except ScheduleAlreadyRunningError:
            raise InvalidInputError(
                f"There is a schedule {name!r} already: delete it, or choose another name."
            ) from None
        except RPCError as error:
            raise _refused(error, name) from None
        return await self.show(name)

    def _to_start(
        self,
        agent: str,
        input: str | Sequence[ContentPart],
        workflow: str,
        args: Sequence[Any],
        *,
        limits: Limits | None,
        context: Mapping[str, JsonValue] | None,
        tenant: str,
    ) -> RunStart:
        if bool(agent) == bool(workflow):
            raise InvalidInputError("A schedule starts either an agent or a workflow.")
        if agent:
            return agent_start(
                self._client, self._registry, agent, input, limits=limits, context=context, tenant=tenant
            )
        if limits or context:
            raise InvalidInputError(f"Limits and context are for agents; {workflow!r} is a workflow.")
        attributes = {"PerdureTenant": tenant}
        return RunStart(
            workflow=workflow, args=args, name=workflow, summary=workflow, attributes=attributes, tenant=tenant
        )

    async def list(self) -> AsyncIterator[ScheduleInfo]:
        """Yield the schedules of the namespace, those of others too."""
        async for entry in await self._client.list_schedules():
            yield await info_of(entry)

    async def show(self, name: str) -> ScheduleDetails:
        """Return a schedule with its next times and its latest runs.

        Raises:
            InvalidInputError: There is no such schedule. Not retryable.
        """
        try:
            described = await self._client.get_schedule_handle(name).describe()
        except RPCError as error:
            raise _refused(error, name) from None
        return await details_of(described)

    async def pause(self, name: str, *, note: str = "") -> None:
        """Start nothing more until it is resumed. Runs that are open go on.

        Raises:
            InvalidInputError: There is no such schedule. Not retryable.
        """
        await _done(name, self._client.get_schedule_handle(name).pause(note=note or None))

    async def resume(self, name: str, *, note: str = "") -> None:
        """Go on. What was due meanwhile is not made up for.

        Raises:
            InvalidInputError: There is no such schedule. Not retryable.
        """
        await _done(name, self._client.get_schedule_handle(name).unpause(note=note or None))

    async def delete(self, name: str) -> None:
        """Delete a schedule. Runs that are open go on.

        Raises:
            InvalidInputError: There is no such schedule. Not retryable.
        """
        await _done(name, self._client.get_schedule_handle(name).delete())

    async def trigger(self, name: str, *, overlap: Overlap | None = None) -> Triggered:
        """Start a run now, also of a schedule that is paused.

        Args:
            name: The schedule.
            overlap: In place of the schedule's own policy.

        Returns:
            The run; none where the policy is against one while the one before is open.

        Raises:
            InvalidInputError: There is no such schedule. Not retryable.
        """
        before = await self.show(name)
        policy = None if overlap is None else ScheduleOverlapPolicy[overlap.upper()]
        if before.recent:
            await _next_second(before.recent[-1].due_at)
        await _done(name, self._client.get_schedule_handle(name).trigger(overlap=policy))
        known = {run.workflow_id for run in before.recent}
        try:
            async with asyncio.timeout(_TRIGGER_SECONDS):
                while True:
                    now = await self.show(name)
                    new = [run.workflow_id for run in now.recent if run.workflow_id not in known]
                    if new:
                        return Triggered(schedule=name, workflow_id=new[-1])
                    if now.skipped > before.skipped:
                        return Triggered(schedule=name, note=f"{', '.join(now.running)} is open: {now.overlap}")
                    await asyncio.sleep(0.1)
        except TimeoutError:
            return Triggered(schedule=name, note="it waits for the run that is open")


def _spec(
    cron: str | Sequence[str], every: timedelta | None, *, time_zone: str, jitter: timedelta | None
) -> ScheduleSpec:
    expressions = (cron,) if isinstance(cron, str) else tuple(cron)
    if not expressions and every is None:
        raise InvalidInputError("A schedule needs to say when: by a cron expression or a period.")
    if every is not None and every < _SHORTEST:
        raise InvalidInputError("The shortest period of a schedule is a second.")
    return ScheduleSpec(
        cron_expressions=expressions,
        intervals=[] if every is None else [ScheduleIntervalSpec(every=every)],
        time_zone_name=time_zone or None,
        jitter=jitter,
    )


async def _next_second(after: datetime) -> None:
    """Wait until the second of `after` is over: Temporal names a run by the second in which it is due."""
    left = after.replace(microsecond=0) + timedelta(seconds=1) - datetime.now(UTC)
    await asyncio.sleep(min(max(left.total_seconds(), 0), 1))


async def _done(name: str, call: Any) -> None:
    try:
        await call
    except RPCError as error:
        raise _refused(error, name) from None


def _refused(error: RPCError, name: str) -> Exception:
    """Return what an error of the server's says to whoever asked."""
    if error.status == RPCStatusCode.NOT_FOUND:
        return InvalidInputError(
            f"There is no schedule {name!r}. `perdure schedule list` shows the schedules that there are."
        )
    if error.status == RPCStatusCode.INVALID_ARGUMENT:
        return InvalidInputError(f"Temporal can't use the schedule {name!r}: {error.message}.")
    if error.status == RPCStatusCode.UNIMPLEMENTED:
        return InvalidInputError("This Temporal server has no schedules.")
    return error
