"""What runs wait for people for: found by the server's list, told by each run. Client side.

A run answers by query. Where no worker is there to answer, what is known comes from Event History: the tool calls
without an answer that a rule asks for, without the ids that a decision needs.
"""

import asyncio
import sys
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError
from temporalio.api.enums.v1 import EventType
from temporalio.client import Client, WorkflowHandle, WorkflowQueryFailedError, WorkflowQueryRejectedError
from temporalio.service import RPCError

from perdure._task_queues import has_pollers
from perdure.client._runs import RunInfo, list_runs, quoted
from perdure.contracts.messages import Message, TextPart
from perdure.contracts.names import AGENT_WORKFLOW, DECIDE_UPDATE, MESSAGES_QUERY, WAITS_QUERY
from perdure.contracts.run import MessagesPage, MessagesQuery
from perdure.contracts.waits import Decider, DecideRequest, Wait, WaitKind, WaitsPage
from perdure.errors import InvalidInputError
from perdure.history import RunReader

WAITING = ("waiting_approval", "waiting_answer")
_QUERY_TIMEOUT = timedelta(seconds=3)
_AT_ONCE = 16
_MOST_BELOW = 500
_ARGUMENT_CHARS = 4000
_WAITS = f"ExecutionStatus = 'Running' AND PerdureState IN ({', '.join(map(repr, WAITING))})"


class RunWaits(BaseModel):
    """A run, and what it waits for."""

    model_config = ConfigDict(frozen=True)

    workflow_id: str
    run_id: str
    agent: str | None = None
    workflow: str
    state: str | None = None
    waits: tuple[Wait, ...] = ()
    total: int = 0
    """All of them; `waits` are as many as fit into 1 MB. Where some were chosen: those, and what isn't told."""
    is_answered: bool = True
    """False where no worker answered: `waits` is what history tells, and their ids are empty."""


class Inbox(BaseModel):
    """The runs that wait for people."""

    model_config = ConfigDict(frozen=True)

    runs: tuple[RunWaits, ...] = ()
    """Those that started last come first."""
    left_out: int = 0
    """How many more wait. They started after these."""


class RecordedDecision(BaseModel):
    """A decision as Event History has it."""

    model_config = ConfigDict(frozen=True)

    wait: str
    verdict: str
    by: Decider
    at: datetime
    reason: str = ""
    arguments: str | None = None
    is_always: bool = False
    identity: str = ""
    """What the client called itself when it connected: a claim."""
    principal: str = ""
    """Who the server says it was; empty where it has no authorizer."""


class WaitReader:
    """Asks runs what they wait for; remembers for which Task Queues there is a worker."""

    def __init__(self, client: Client) -> None:
        """Ask nobody yet."""
        self._client = client
        self._polled: dict[str, bool] = {}
        self._gate = asyncio.Semaphore(_AT_ONCE)

    async def inbox(self, *, group: str | None, kind: WaitKind | None, limit: int) -> Inbox:
        """Return the runs of the namespace that wait for people; all are asked where some are chosen of them.

        Raises:
            InvalidInputError: The server lacks perdure's search attributes. Not retryable.
        """
        infos = [info async for info in list_runs(self._client, _WAITS, sys.maxsize)]
        is_choosing = group is not None or kind is not None
        asked = [asyncio.create_task(self.of_run(info)) for info in (infos if is_choosing else infos[-limit:])]
        try:
            answers = [await each for each in asked]
        finally:
            for each in asked:
                each.cancel()
        found = [run for each in answers if (run := chosen(each, group, kind)) is not None]
        unasked = len(infos) - len(asked)
        return Inbox(runs=tuple(found[-limit:]), left_out=unasked + max(0, len(found) - limit))

    async def of_tree(self, info: RunInfo) -> list[RunWaits]:
        """Return what a run waits for, and what the runs below it do."""
        found = [await self.of_run(info)] if info.closed_at is None else []
        root = quoted(info.workflow_id)
        query = f"{_WAITS} AND RootWorkflowId = '{root}' AND WorkflowId != '{root}'"
        with suppress(InvalidInputError):  # without search attributes nobody knows of those below
            below = [each async for each in list_runs(self._client, query, _MOST_BELOW)]
            found.extend(await asyncio.gather(*(self.of_run(each) for each in below)))
        return [each for each in found if chosen(each) is not None]

    async def of_run(self, info: RunInfo) -> RunWaits:
        """Return what one run waits for."""
        async with self._gate:
            page = await self._ask(info)
        known = info.model_dump(include={"workflow_id", "run_id", "agent", "workflow", "state"})
        if page is not None:
            return RunWaits(**known, waits=page.waits, total=page.total)
        if info.state not in WAITING:
            return RunWaits(**known)
        waits = await waits_from_history(self._client, info)
        return RunWaits(**known, waits=tuple(waits), total=len(waits), is_answered=False)

    async def whole_arguments(self, info: RunWaits, wait: Wait) -> Wait:
        """Return a wait with all of its arguments, where they were too long to tell."""
        if not wait.is_cut or wait.call_slot is None or not info.is_answered:
            return wait
        query = MessagesQuery(conversation=wait.conversation, start=wait.call_slot, stop=wait.call_slot + 1)
        handle: WorkflowHandle[Any, Any] = self._client.get_workflow_handle(info.workflow_id, run_id=info.run_id)
        with suppress(RPCError, WorkflowQueryFailedError, WorkflowQueryRejectedError, ValidationError, IndexError):
            page = await handle.query(MESSAGES_QUERY, query, result_type=MessagesPage, rpc_timeout=_QUERY_TIMEOUT)
            call = page.messages[0].tool_calls[wait.index]
            return wait.model_copy(update={"arguments": call.arguments, "is_cut": False})
        return wait

    async def _ask(self, info: RunInfo) -> WaitsPage | None:
        """Ask a run; None when nobody answers at once, or it is no run of perdure's."""
        handle: WorkflowHandle[Any, Any] = self._client.get_workflow_handle(info.workflow_id, run_id=info.run_id)
        with suppress(RPCError, WorkflowQueryFailedError, WorkflowQueryRejectedError, ValidationError):
            if await self._has_worker(info.task_queue):
                return await handle.query(WAITS_QUERY, result_type=WaitsPage, rpc_timeout=_QUERY_TIMEOUT)
        return None

    async def _has_worker(self, queue: str) -> bool:
        if queue not in self._polled:
            self._polled[queue] = await has_pollers(self._client, queue)
        return self._polled[queue]


async def waits_from_history(client: Client, info: RunInfo) -> list[Wait]:
    """Return the calls of the last message that have no answer, and that a rule or the tool asks for."""
    if info.workflow != AGENT_WORKFLOW:
        return []
    reader, asked_at = RunReader(client.data_converter), info.started_at
    handle = client.get_workflow_handle(info.workflow_id, run_id=info.run_id)
    async for event in handle.fetch_history_events():
        await reader.read(event)
        if event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED:
            asked_at = event.event_time.ToDatetime(tzinfo=info.started_at.tzinfo)
    conversation, specs = reader.run.conversation(), list(reader.run.specs.values())
    replies = [slot for slot, message in conversation.items() if message.role == "assistant"]
    if not replies or not specs:
        return []
    slot = max(replies)
    found: list[Wait] = []
    for index, call in enumerate(conversation[slot].tool_calls):
        tool = specs[-1].tool(call.name)
        is_waiting = tool is not None and (tool.approval is not None or tool.question is not None)
        if tool is None or not is_waiting or slot + 1 + index in conversation:
            continue
        found.append(
            Wait(
                id="",
                kind="approval" if tool.question is None else "question",
                asked_at=asked_at,
                group=tool.approval.group if tool.approval else "",
                agent=specs[-1].name,
                tool=call.name,
                arguments=call.arguments[:_ARGUMENT_CHARS],
                is_cut=len(call.arguments) > _ARGUMENT_CHARS,
                call_slot=slot,
                index=index,
                reason=_text(conversation[slot]),
                question=call.arguments if tool.question else "",
            )
        )
    return found


def _text(message: Message) -> str:
    return "".join(part.text for part in message.parts if isinstance(part, TextPart))[:1000]


async def read_decisions(client: Client, info: RunInfo) -> list[RecordedDecision]:
    """Return what people decided in a run, from its history: it needs no worker."""
    handle = client.get_workflow_handle(info.workflow_id, run_id=info.run_id)
    found: list[RecordedDecision] = []
    async for event in handle.fetch_history_events():
        if event.event_type != EventType.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ACCEPTED:
            continue
        asked = event.workflow_execution_update_accepted_event_attributes.accepted_request
        if asked.input.name != DECIDE_UPDATE:
            continue
        request = (await client.data_converter.decode(list(asked.input.args.payloads)[:1], [DecideRequest]))[0]
        found.append(
            RecordedDecision(
                **request.model_dump(include={"wait", "verdict", "by", "reason", "arguments", "is_always"}),
                at=event.event_time.ToDatetime(tzinfo=info.started_at.tzinfo),
                identity=asked.meta.identity,
                principal=": ".join(filter(None, (event.principal.type, event.principal.name))),
            )
        )
    return found


def find_wait(
    runs: Sequence[RunWaits], workflow_id: str, call: str | None, *, kind: WaitKind
) -> tuple[RunWaits, Wait]:
    """Return the wait that is meant: the one that there is, or the one whose id begins with `call`.

    Raises:
        InvalidInputError: There is none, or several. Not retryable.
    """
    noun = "an approval" if kind == "approval" else "an answer"
    waiting = [run for each in runs if (run := chosen(each, kind=kind)) is not None]
    open_waits = [(run, wait) for run in waiting if run.is_answered for wait in run.waits]
    if not waiting:
        raise InvalidInputError(
            f"The run {workflow_id!r} waits for no {noun.split()[-1]}: `perdure show {workflow_id}`."
        )
    if not open_waits or (call is None and any(not run.is_answered for run in waiting)):
        raise InvalidInputError(
            f"The run {workflow_id!r} waits for {noun}, but no worker answers that could take it: start one with "
            "`perdure worker`."
        )
    meant = [each for each in open_waits if call is None or each[1].id.startswith(call)]
    if len(meant) == 1:
        return meant[0]
    listed = ", ".join(f"{wait.id} ({wait.tool or wait.question[:40]})" for _, wait in (meant or open_waits)[:10])
    if not meant:
        raise InvalidInputError(
            f"Nothing with the id {call!r} waits in the run {workflow_id!r}. What waits: {listed}."
        )
    raise InvalidInputError(f"The run {workflow_id!r} waits for several: name one of {listed}.")


def chosen(run: RunWaits, group: str | None = None, kind: WaitKind | None = None) -> RunWaits | None:
    """Return a run with what waits for a group, or is of a kind; None where nothing is.

    Of a run that doesn't tell what it waits for, this may be what is looked for.
    """
    if not run.waits and not run.is_answered:
        return None if kind == "approval" and run.state != "waiting_approval" else run
    waits = tuple(wait for wait in run.waits if group in (None, wait.group) and kind in (None, wait.kind))
    untold = run.total - len(run.waits)
    return run.model_copy(update={"waits": waits, "total": len(waits) + untold}) if waits else None
