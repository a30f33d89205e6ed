"""`AgentWorkflow`: one agent, from its input to its answer, over as many runs as that takes. Workflow side.

It runs outside of the sandbox for speed; a test runs and replays it inside, with a worker's usual restrictions.
"""

import asyncio
from datetime import datetime

from pydantic import JsonValue, ValidationError
from temporalio import workflow
from temporalio.exceptions import FailureError, is_cancelled_exception

from perdure.contracts.attributes import first_attributes
from perdure.contracts.budget import (
    NONE_UNCOUNTED,
    LeaseAnswer,
    LeaseReport,
)
from perdure.contracts.calls import CopyConversationRequest, LoadAgentRequest
from perdure.contracts.limits import Limits
from perdure.contracts.messages import Message
from perdure.contracts.money import MoneyStatus
from perdure.contracts.names import (
    AGENT_WORKFLOW,
    DECIDE_UPDATE,
    LEASE_ANSWER_SIGNAL,
    LEASE_SIGNAL,
    LIMIT_UPDATE,
    MAIN_CONVERSATION,
    MESSAGES_QUERY,
    MONEY_QUERY,
    SEND_UPDATE,
    SPEC_QUERY,
    STATUS_QUERY,
    WAITS_QUERY,
)
from perdure.contracts.run import (
    Answered,
    Carried,
    Counters,
    MessagesPage,
    MessagesQuery,
    RunInput,
    RunResult,
    RunState,
    RunStatus,
)
from perdure.contracts.spec import AgentSpec
from perdure.contracts.steering import SendReceipt, SendRequest
from perdure.contracts.waits import DecideRequest, Decision, WaitsPage
from perdure.errors import InvalidInputError, PerdureError, UserError
from perdure.workflows._accounts import Account
from perdure.workflows._bills import tell_bill
from perdure.workflows._calls import copy_conversation, load_agent
from perdure.workflows._conversation import INLINE_BYTES, Conversation
from perdure.workflows._details import agent_details
from perdure.workflows._guard import typed_activity_failure, typed_failures
from perdure.workflows._host import current_host
from perdure.workflows._known import KnownResults
from perdure.workflows._mcp_sessions import McpSessions
from perdure.workflows._raising import check_new_limits
from perdure.workflows._search_attributes import sums_told, told_state, write_attributes
from perdure.workflows._session import ends_session, wait_for_message
from perdure.workflows._settling import (
    account_of,
    first_ledger,
    last_account,
    new_account,
    taken_below,
    with_costs,
)
from perdure.workflows._steering import Steering
from perdure.workflows._waits import WaitBook
from perdure.workflows.loop import AgentLoop, Answer

_MAX_RESULT_CHARS = 250_000
"""Longer answers are read from the conversation: 4 bytes a character stay below 1 MB."""
_CARRY_FACTOR = 3
_MANY_EVENTS = 3000
"""New events after which a new run is due even where the conversation is large: replay takes time by event."""
_LARGE_BYTES = 1024 * 1024
"""A conversation that is smaller is copied as it is: to shorten it loses more than it saves."""
_HARD_EVENTS = 40_000
_HARD_BYTES = 40 * 1024 * 1024
"""Well below what the server kills a run at: 51,200 events or 50 MiB."""
_CANCELLED_PATCH = "perdure.cancelled-state"
"""Runs that were cancelled before there was this wrote no state at their end."""
_SETTLED_PATCH = "perdure.settled-ends"
"""Runs that were cancelled before there was this gave nothing back."""
_ANSWERED_PATCH = "perdure.session-answered"
"""Sessions that went on before there was this took the answer of the run before for their last one."""


@workflow.defn(name=AGENT_WORKFLOW, sandboxed=False, failure_exception_types=[PerdureError, ValidationError])
class AgentWorkflow:
    """Runs an agent. Started by an agent's name; everything else is pinned in the first step."""

    @workflow.init
    def __init__(self, request: RunInput) -> None:
        """Know the request before the first query comes."""
        carried = request.carried
        self._request = request
        self._counters = Counters() if carried is None else carried.counters
        self._started_at: datetime = workflow.now() if carried is None else carried.started_at
        self._conversation = Conversation(epoch=0 if carried is None else carried.epoch)
        inbox = request.inbox if carried is None else carried.inbox
        self._steering = Steering(inbox, is_session=request.session is not None)
        self._answered = None if carried is None else carried.answered
        self._loop: AgentLoop | None = None
        self._end: RunState | None = None
        self._waits = WaitBook(None if carried is None else carried.waits)
        self._has_waited = self._waits.run_state() is not None
        self._early_answers: list[LeaseAnswer] = []
        self._base_events = 0
        self._base_bytes = 0
        self._is_short = False
        if carried is None:
            message = Message(role="user", parts=request.input)
            self._conversation.append(message, is_recorded=_is_long(message))

    @workflow.run
    async def run(self, request: RunInput) -> RunResult:
        """Work until there is an answer."""
        if request.carried is not None:
            current_host().pause.restore(is_on=request.carried.is_paused, seq=request.carried.pause_seq)
        current_host().pause.on_change = self._show
        current_host().child_runs.on_change = self._show
        current_host().details = self._details
        with typed_failures():
            try:
                result = await self._work(request)
            except PerdureError as error:
                self._close("failed")
                raise self._with_costs(error) from error.__cause__
            except (FailureError, asyncio.CancelledError) as error:
                await self._end_cancelled(error)
                raise
            self._close("completed")
            return result

    async def _work(self, request: RunInput) -> RunResult:
        host = current_host()
        host.bill = request.first_bill()
        host.waits, host.shows_state = self._waits, True
        self._waits.on_change = self._show
        spec = await self._pin(request)
        ledger = first_ledger(request, spec)
        loop = AgentLoop(
            spec,
            self._conversation,
            counters=self._counters,
            started_at=self._started_at,
            depth=request.depth,
            tenant=request.tenant,
            known=KnownResults(() if request.carried is None else request.carried.known_results),
            reload=lambda name: self._load(name, spec.context),
            on_progress=self._show,
            new_account=new_account,
            account=None if ledger is None else new_account(ledger),
            raised=None if request.carried is None else request.carried.raised,
            uncounted=NONE_UNCOUNTED if request.carried is None else request.carried.uncounted,
            should_suspend=self._is_copying_due,
            steering=self._steering,
            answered_turns=0 if request.carried is None else request.carried.answered_turns,
            prompt=None if request.carried is None else request.carried.prompt,
            sessions=McpSessions(() if request.carried is None else request.carried.sessions),
        )
        self._loop = loop
        if self._account is not None:
            for answer in self._early_answers:
                self._account.on_letter(answer)
        if request.carried is None or request.carried.resumed is not None:
            state = self._waits.run_state() or "working"
            self._write_attributes(**first_attributes(spec.name, spec.models[0].name, request.tenant, state=state))
        self._note_base()
        answer = await self._resume(loop)
        while answer is None or await self._goes_on(loop, answer):
            if loop.suspended is None:
                answer = await self._run(loop)
            if answer is None:
                await self._continue_as_new(loop)
        return self._result(loop, answer)

    async def _run(self, loop: AgentLoop) -> Answer | None:
        """Take turns until there is an answer, or a new run is due: a large conversation is made shorter first."""
        while (answer := await loop.run(should_stop=self._should_continue_as_new)) is None:
            if loop.suspended is not None or not self._is_shortening_due() or await loop.shorten():
                return None
            self._is_short = True  # no shorter than it is: the run goes on until copying it pays
        return answer

    async def _goes_on(self, loop: AgentLoop, answer: Answer) -> bool:
        """Wait for the next message, after an answer; False when the run is over with it."""
        session = self._request.session
        if self._steering.inbox and answer.limit is None:
            if self._answered is not None and workflow.patched(_ANSWERED_PATCH):
                self._answered = None
            return True
        if session is None or ends_session(answer.limit):
            return False
        if self._answered is None:
            self._answered = Answered(at=workflow.now(), limit=answer.limit, score=answer.score)
        loop.wait_for_message()
        since, inbox = self._answered.at, self._steering.inbox
        came = await wait_for_message(
            session, inbox, since=since, should_stop=self._is_copying_due, clock=loop.allowance.clock
        )
        if came == "stop":
            await self._continue_as_new(loop)
        if came == "message":
            self._answered = None
            loop.go_on()
        return came == "message"

    async def _continue_as_new(self, loop: AgentLoop) -> None:
        await workflow.wait_condition(workflow.all_handlers_finished)
        workflow.continue_as_new(self._successor(loop))

    async def _end_cancelled(self, error: BaseException) -> None:
        """Write that the run was cancelled, and tell its parent what it has left: its end says neither.

        One that is merely evicted from a worker's cache goes on elsewhere.
        """
        if workflow.cancellation_reason() is None or not is_cancelled_exception(error):
            return
        if workflow.patched(_CANCELLED_PATCH):
            self._close("cancelled")
        account = last_account(self._request, self._loop, self._early_answers)
        if account is not None and account.purse.settled is not None and workflow.patched(_SETTLED_PATCH):
            await account.settle_up()

    async def _pin(self, request: RunInput) -> AgentSpec:
        if request.carried is not None:
            current_host().first_run_id = request.carried.first_run_id
            with typed_activity_failure():
                return await self._copy(request.carried)
        return await self._load(request.agent, request.context)

    async def _resume(self, loop: AgentLoop) -> Answer | None:
        """Finish the turn that the run which this one goes on from was in."""
        carried = self._request.carried
        if carried is not None and carried.answered is not None:
            return loop.last_answer(limit=carried.answered.limit, score=carried.answered.score)
        if carried is None or carried.resumed is None:
            return None
        kept: dict[int, Message] = {}
        for slot in carried.resumed.kept:
            request = self._copy_request(carried, slot, slot + 1).model_copy(update={"is_alone": True})
            with typed_activity_failure():
                kept[slot] = (await copy_conversation(request)).messages[0]
        if carried.waits.pending:
            self._note_base()  # what was copied one by one is not new either
        return await loop.resume(kept, carried.resumed)

    async def _load(self, agent: str, context: dict[str, JsonValue] | None) -> AgentSpec:
        with typed_activity_failure():
            return await load_agent(
                LoadAgentRequest(
                    agent=agent,
                    limits=self._request.limits,
                    context=context,
                    verify=self._request.verify,
                    approvals=self._request.approvals,
                )
            )

    async def _copy(self, carried: Carried) -> AgentSpec:
        spec: AgentSpec | None = None
        given = {} if carried.fork is None else {each.slot: each.message for each in carried.fork.given}
        while spec is None or len(self._conversation) < carried.conversation_slots:
            start = len(self._conversation)
            if spec is not None and start in given:
                self._conversation.append(given[start], is_recorded=_is_long(given[start]))
                continue
            stop = min((slot for slot in given if slot >= start), default=carried.conversation_slots)
            asked = self._copy_request(carried, start, stop)
            page = await copy_conversation(asked if spec is None else asked.model_copy(update={"spec": ""}))
            spec = spec or page.spec
            for message in page.messages:
                self._conversation.append(message, is_recorded=True)
        return spec

    def _copy_request(self, carried: Carried, start: int, stop: int) -> CopyConversationRequest:
        return CopyConversationRequest(
            from_run_id=carried.from_run_id,
            spec=carried.spec,
            start=start,
            stop=stop,
            epoch=carried.epoch,
            limits=Limits() if carried.resumed is None else self._request.limits,
            from_workflow_id="" if carried.fork is None else carried.fork.workflow_id,
            changes=carried.fork.changes if carried.fork is not None and start == 0 else None,
            digest=carried.digest if stop == carried.conversation_slots else "",
            may_split=True,
        )

    def _note_base(self) -> None:
        info = workflow.info()
        self._base_events = info.get_current_history_length()
        self._base_bytes = info.get_current_history_size()

    def _should_continue_as_new(self) -> bool:
        """Say whether a new run is due and worth copying the conversation for.

        Copying pays when what is new is several times what was copied, in events or in bytes, whichever of them
        the server complains of.
        """
        if self._is_copying_due():
            return True
        return workflow.info().is_continue_as_new_suggested() and self._is_shortening_due()

    def _is_copying_due(self) -> bool:
        """Say whether a new run is due with the conversation as it is."""
        info = workflow.info()
        events, size = info.get_current_history_length(), info.get_current_history_size()
        if events >= _HARD_EVENTS or size >= _HARD_BYTES or self._steering.inbox.is_worn:
            return True
        return info.is_continue_as_new_suggested() and self._pays_off(events, size)

    def _pays_off(self, events: int, size: int) -> bool:
        new_events, new_bytes = events - self._base_events, size - self._base_bytes
        return new_bytes >= _CARRY_FACTOR * self._base_bytes or new_events >= _MANY_EVENTS

    def _is_shortening_due(self) -> bool:
        """Say whether the conversation is so large that copying it doesn't pay, and can be made shorter."""
        loop, info = self._loop, workflow.info()
        if self._is_short or loop is None or loop.spec.compaction is None:
            return False
        if self._pays_off(info.get_current_history_length(), info.get_current_history_size()):
            return False
        return sum(size for size, _ in self._conversation.weights()) >= _LARGE_BYTES

    def _successor(self, loop: AgentLoop) -> RunInput:
        return RunInput(
            agent=self._request.agent,
            limits=self._request.limits,
            tenant=self._request.tenant,
            depth=self._request.depth,
            answers=self._request.answers,
            verify=self._request.verify,
            task_kind=self._request.task_kind,
            forked=self._request.forked,
            approvals=self._request.approvals,
            session=self._request.session,
            carried=Carried(
                from_run_id=workflow.info().run_id,
                spec=loop.spec.digest,
                conversation_slots=self._carried_slots(loop),
                started_at=self._started_at,
                epoch=self._conversation.epoch,
                counters=loop.counters,
                known_results=loop.known.latest(),
                first_run_id=current_host().first_run_id,
                ledger=None if self._account is None else self._account.ledger,
                raised=loop.allowance.raised,
                resumed=loop.suspended,
                waits=self._waits.state(),
                inbox=self._steering.inbox.carried(),
                is_paused=current_host().pause.is_on,
                pause_seq=current_host().pause.seq,
                answered=self._answered,
                answered_turns=loop.answered_turns,
                prompt=loop.compactor.prompt,
                sessions=loop.sessions.carried(),
                bill=current_host().bill,
                uncounted=loop.allowance.uncounted,
                digest=self._conversation.digest(self._carried_slots(loop)),
            ),
        )

    def _carried_slots(self, loop: AgentLoop) -> int:
        """Return how many slots are copied in one piece: not those of calls that a turn still waits with."""
        return len(self._conversation) if loop.suspended is None else self._conversation.last_reply() + 1

    def _result(self, loop: AgentLoop, answer: Answer) -> RunResult:
        is_large = answer.size > _MAX_RESULT_CHARS
        return RunResult(
            output=None if is_large else answer.value,
            output_slot=len(self._conversation) - 1 if is_large else None,
            agent=loop.spec.name,
            counters=loop.counters,
            limit=answer.limit,
            model=answer.model,
            score=answer.score,
            settled=None if self._account is None else self._account.purse.settled,
            below=taken_below(self._request, loop),
        )

    def _with_costs(self, error: PerdureError) -> PerdureError:
        account = last_account(self._request, self._loop, self._early_answers)
        return with_costs(error, self._request, self._loop, self._sums, account)

    @property
    def _account(self) -> Account | None:
        return account_of(self._loop)

    @property
    def _sums(self) -> Counters:
        return self._counters if self._loop is None else self._loop.counters

    def _close(self, state: RunState) -> None:
        self._end = state
        self._write_attributes(PerdureState=state, **sums_told(self._sums))
        tell_bill(self._sums.usage)
        self._show()

    def _write_attributes(self, **values: str | float | None) -> None:
        write_attributes(self._loop.spec.search_attributes if self._loop is not None else (), **values)

    def _show(self) -> None:
        """Tell the trace how the run stands, and that it waits to whoever lists runs."""
        state = self._state()
        trace = current_host().trace
        if trace is not None:
            trace.note_state(state)
        self._has_waited = self._has_waited or state.startswith("waiting_") or state in ("paused", "idle")
        if self._has_waited and self._end is None and state != told_state():
            self._write_attributes(PerdureState=state, **sums_told(self._sums))

    def _details(self) -> str:
        return agent_details(self.status(), current_host().child_runs.told())

    @workflow.query(name=STATUS_QUERY)
    def status(self) -> RunStatus:
        """Return the run at a glance."""
        loop = self._loop
        return RunStatus(
            agent=self._request.agent if loop is None else loop.spec.name,
            state=self._state(),
            slots=len(self._conversation),
            epoch=self._conversation.epoch,
            counters=self._sums,
            limits=self._request.limits if loop is None else loop.limits,
            spent=None if self._account is None else self._account.ledger.spent,
            reserved=None if self._account is None else self._account.held,
            budget=None if self._account is None else self._account.budget,
            activity="" if loop is None or self._end else self._waits.told() or loop.activity,
            conversation=MAIN_CONVERSATION,
            spec="" if loop is None else loop.spec.digest,
            waiting=len(self._steering.inbox),
            received=self._steering.inbox.received,
            is_session=self._request.session is not None,
        )

    @workflow.query(name=MONEY_QUERY)
    def money(self) -> MoneyStatus | None:
        """Return how the run's limit of money or tokens stands; None where none holds."""
        return None if self._account is None else self._account.status()

    def _state(self) -> RunState:
        if self._end is not None:
            return self._end
        waiting = self._waits.run_state()  # first, since people look for it: a paused run can be decided, too
        if waiting is not None:
            return waiting
        if current_host().pause.is_on:
            return "paused"
        return "starting" if self._loop is None else self._loop.state

    @workflow.signal(name=LEASE_SIGNAL)
    def hear_from_child(self, report: LeaseReport) -> None:
        """Take what a child gives back of its lease, and what it needs."""
        if self._account is not None:
            self._account.on_letter(report)

    @workflow.signal(name=LEASE_ANSWER_SIGNAL)
    def hear_from_parent(self, answer: LeaseAnswer) -> None:
        """Take what the parent grants, denies or recalls."""
        if self._account is None:
            self._early_answers.append(answer)
        else:
            self._account.on_letter(answer)

    @workflow.update(name=LIMIT_UPDATE)
    def set_limits(self, given: Limits) -> Limits:
        """Set limits of the open run, and return all that hold."""
        assert self._loop is not None, "the validator has refused it"
        self._loop.set_limits(given)
        return self._loop.limits

    @set_limits.validator
    def _check_limits(self, given: Limits) -> None:
        if self._loop is None or self._end is not None:
            raise InvalidInputError("The run is starting or ending: try again in a moment.")
        elapsed = workflow.now() - self._started_at
        check_new_limits(given, self._loop, elapsed)

    @workflow.query(name=WAITS_QUERY)
    def waits(self) -> WaitsPage:
        """Return what the run waits for people for."""
        return self._waits.page()

    @workflow.update(name=DECIDE_UPDATE)
    def decide(self, request: DecideRequest) -> Decision:
        """Take what a person decided."""
        return self._waits.decide(request, workflow.now())

    @decide.validator
    def _check_decision(self, request: DecideRequest) -> None:
        self._waits.check(request, workflow.now())

    @workflow.update(name=SEND_UPDATE)
    def send(self, request: SendRequest) -> SendReceipt:
        """Take a message, which enters the conversation at the next turn."""
        return self._steering.send(request)

    @send.validator
    def _check_send(self, request: SendRequest) -> None:
        if self._end is not None or (self._loop is not None and self._loop.state == "finishing"):
            raise InvalidInputError("it is about to end, and takes no more messages.")
        self._steering.check(request)

    @workflow.query(name=MESSAGES_QUERY)
    def messages(self, query: MessagesQuery) -> MessagesPage:
        """Return a page of a conversation."""
        known = self._conversation
        if query.conversation != known.name or query.epoch not in (None, known.epoch):
            raise UserError(f"This run has no conversation {query.conversation!r} of epoch {query.epoch}.")
        return known.page(query)

    @workflow.query(name=SPEC_QUERY)
    def spec(self, digest: str = "") -> AgentSpec | None:
        """Return the pinned spec; None before it is loaded, or when it is another one."""
        spec = None if self._loop is None else self._loop.spec
        return spec if spec is not None and digest in ("", spec.digest) else None


def _is_long(message: Message) -> bool:
    """Say whether a message of the run's input is looked up there, not recorded with the next model call."""
    return len(message.to_bytes()) > INLINE_BYTES
