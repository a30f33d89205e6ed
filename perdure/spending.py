"""What a run took of its limits of money, tokens and calls, from its Event History. Client and activity side.

It is what the run's own ledger says, whatever ended the run: calls that were answered count by their usage, others
at the worst case that was reserved, children by their settlement, and those that ended without one by their lease.
A run's own tool calls are not in it: which of them count is known from its conversation.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from temporalio.api.common.v1 import Payload
from temporalio.api.enums.v1 import EventType
from temporalio.api.failure.v1 import Failure
from temporalio.api.history.v1 import HistoryEvent
from temporalio.converter import DataConverter

from perdure.contracts.budget import (
    NONE_UNCOUNTED,
    NOTHING,
    ONE_MODEL_CALL,
    Amount,
    Lease,
    LeaseAnswer,
    LeaseReport,
    Ledger,
    amount_of,
    settled_in,
    worst_case,
)
from perdure.contracts.calls import CallModelRequest, CallModelResult
from perdure.contracts.limits import Limits
from perdure.contracts.map import MapPage, MapSlice
from perdure.contracts.names import (
    AGENT_WORKFLOW,
    CALL_MODEL,
    FIND_EARLIER,
    LEASE_ANSWER_SIGNAL,
    LEASE_HEADER,
    LEASE_SIGNAL,
    LEDGER_HEADER,
    LIMIT_UPDATE,
    LIMITS_MEMO,
    MAP_NODE,
    SELECT_AGENT,
)
from perdure.contracts.rerun import FindEarlierResult
from perdure.contracts.run import RunInput, RunResult
from perdure.contracts.selection import ChoiceBounds, Selection, SelectRequest
from perdure.contracts.spec import AgentSpec
from perdure.contracts.usage import Price
from perdure.errors import ModelCallError, PerdureError, UserError, revive


@dataclass
class _Call:
    request: CallModelRequest
    result: CallModelResult | None = None
    is_free: bool = False

    def amount(self, specs: Mapping[str, AgentSpec]) -> Amount:
        price = _price(self.request, specs)
        worst = ONE_MODEL_CALL
        if self.request.max_prompt_tokens is not None:
            worst = worst_case(price, self.request.max_prompt_tokens, self.request.max_output_tokens or 0)
        if self.is_free:
            return NOTHING
        if self.result is None:
            return worst
        if self.result.saved is not None:
            return ONE_MODEL_CALL
        usage = self.result.usage
        is_unknown = usage.total_tokens == 0 or (usage.cost_usd is None and price is not None)
        return worst if is_unknown else amount_of(usage, model_calls=1)


def _price(request: CallModelRequest, specs: Mapping[str, AgentSpec]) -> Price | None:
    spec = specs.get(request.spec)
    if spec is None:
        return None
    summariser = None if spec.compaction is None else spec.compaction.model
    is_other = request.summary is not None and summariser is not None
    return summariser.price if is_other and summariser is not None else spec.models[request.model].price


@dataclass
class _Loan:
    child: str
    kind: type[Any] | None
    granted: Amount
    returned: Amount = NOTHING
    seq: int = 0
    settled: Amount | None = None
    is_over: bool = False

    @property
    def amount(self) -> Amount:
        return self.granted - self.returned if self.settled is None else self.settled


@dataclass
class _Choice:
    bounds: ChoiceBounds
    result: Selection | None = None
    is_free: bool = False

    @property
    def amount(self) -> Amount:
        if self.result is not None:
            return self.result.taken(self.bounds)
        return NOTHING if self.is_free else self.bounds.most.times(self.bounds.asks)


class SpendingReader:
    """Takes in the history of a run.

    Attributes:
        has_found: Whether the run looked for what was spent before it was reset, and so counts that.
        raised: The limits that were set while the run, or one that it continues, was open.
        shared: What a workflow that is no agent's run was started with: all below it shares these.
    """

    def __init__(self, converter: DataConverter) -> None:
        """Start with nothing read."""
        self.has_found = False
        self.raised = Limits()
        self.shared = Limits()
        self._converter = converter
        self._base = NOTHING
        self._calls: dict[int, _Call] = {}
        self._choices: dict[int, _Choice] = {}
        self._loans: dict[int, _Loan] = {}
        self._finding: set[int] = set()

    def spent(self, specs: Mapping[str, AgentSpec], *, with_open: bool = True) -> Amount:
        """Return what was taken.

        Args:
            specs: The run's pinned specs by digest: they know the prices.
            with_open: Count what has no end too, at its worst case.
        """
        total = self._base
        for call in self._calls.values():
            if with_open or call.result is not None or call.is_free:
                total += call.amount(specs)
        for choice in self._choices.values():
            if with_open or choice.result is not None or choice.is_free:
                total += choice.amount
        for loan in self._loans.values():
            if with_open or loan.is_over:
                total += loan.amount
        return total

    async def read(self, event: HistoryEvent) -> None:
        """Take an event in."""
        match event.event_type:
            case EventType.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED:
                await self._started(event)
            case EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED:
                await self._scheduled(event)
            case EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED:
                await self._completed(event)
            case EventType.EVENT_TYPE_ACTIVITY_TASK_FAILED:
                await self._failed(event)
            case EventType.EVENT_TYPE_START_CHILD_WORKFLOW_EXECUTION_INITIATED:
                await self._child(event)
            case EventType.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ACCEPTED:
                await self._updated(event)
            case EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED:
                await self._reported(event)
            case EventType.EVENT_TYPE_SIGNAL_EXTERNAL_WORKFLOW_EXECUTION_INITIATED:
                await self._answered(event)
            case _:
                await self._child_ended(event)

    async def _decode(self, payloads: Any, kind: type[Any]) -> Any:
        first: list[Payload] = list(payloads)[:1]
        return (await self._converter.decode(first, [kind]))[0] if first else None

    async def _started(self, event: HistoryEvent) -> None:
        started = event.workflow_execution_started_event_attributes
        if started.workflow_type.name == AGENT_WORKFLOW:
            request: RunInput = await self._decode(started.input.payloads, RunInput)
            carried = request.carried
            self.raised = Limits() if carried is None else carried.raised
            if request.spent is not None:
                self._base = request.spent
            elif carried is not None:
                taken = carried.counters.taken + carried.uncounted.taken
                self._base = carried.ledger.spent if carried.ledger else taken
        if LIMITS_MEMO in started.memo.fields:
            self.shared = await self._decode([started.memo.fields[LIMITS_MEMO]], Limits)
        if LEDGER_HEADER in started.header.fields:
            ledger: Ledger = self._converter.payload_converter.from_payload(
                started.header.fields[LEDGER_HEADER], Ledger
            )
            self._base = ledger.spent
            self.shared = ledger.budget.as_limits().over(self.shared)

    async def _scheduled(self, event: HistoryEvent) -> None:
        scheduled = event.activity_task_scheduled_event_attributes
        if scheduled.activity_type.name == FIND_EARLIER:
            self._finding.add(event.event_id)
        if scheduled.activity_type.name == CALL_MODEL:
            request: CallModelRequest = await self._decode(scheduled.input.payloads, CallModelRequest)
            self._calls[event.event_id] = _Call(request)
        elif scheduled.activity_type.name == SELECT_AGENT:
            asked: SelectRequest = await self._decode(scheduled.input.payloads, SelectRequest)
            if asked.bounds is not None:
                self._choices[event.event_id] = _Choice(asked.bounds)

    async def _completed(self, event: HistoryEvent) -> None:
        completed = event.activity_task_completed_event_attributes
        if completed.scheduled_event_id in self._finding:
            found: FindEarlierResult = await self._decode(completed.result.payloads, FindEarlierResult)
            self._base += found.spent
            self.has_found = True
        call = self._calls.get(completed.scheduled_event_id)
        if call is not None:
            call.result = await self._decode(completed.result.payloads, CallModelResult)
        choice = self._choices.get(completed.scheduled_event_id)
        if choice is not None:
            choice.result = await self._decode(completed.result.payloads, Selection)

    async def _failed(self, event: HistoryEvent) -> None:
        failed = event.activity_task_failed_event_attributes
        call = self._calls.get(failed.scheduled_event_id) or self._choices.get(failed.scheduled_event_id)
        if call is not None:
            call.is_free = await self._is_free(failed.failure)

    async def _updated(self, event: HistoryEvent) -> None:
        asked = event.workflow_execution_update_accepted_event_attributes.accepted_request.input
        if asked.name == LIMIT_UPDATE:
            given: Limits = await self._decode(asked.args.payloads, Limits)
            self.raised = given.over(self.raised)

    async def _error(self, failure: Failure) -> BaseException:
        return revive(await self._converter.decode_failure(failure))

    async def _is_free(self, failure: Failure) -> bool:
        error = await self._error(failure)
        return isinstance(error, UserError) or (isinstance(error, ModelCallError) and not error.may_be_billed)

    async def _child(self, event: HistoryEvent) -> None:
        child = event.start_child_workflow_execution_initiated_event_attributes
        kind: type[Any] | None = None
        lease: Lease | None = None
        if child.workflow_type.name == AGENT_WORKFLOW:
            lease = (await self._decode(child.input.payloads, RunInput)).lease
            kind, lease = RunResult, lease or Lease(parent="")
        elif child.workflow_type.name == MAP_NODE:
            kind, lease = MapPage, (await self._decode(child.input.payloads, MapSlice)).lease
        elif LEASE_HEADER in child.header.fields:
            lease = self._converter.payload_converter.from_payload(child.header.fields[LEASE_HEADER], Lease)
        if lease is not None:
            self._loans[event.event_id] = _Loan(child.workflow_id, kind, lease.granted)

    def _open_loan(self, child: str) -> _Loan | None:
        found = [loan for loan in self._loans.values() if loan.child == child and not loan.is_over]
        return found[-1] if found else None

    async def _reported(self, event: HistoryEvent) -> None:
        signaled = event.workflow_execution_signaled_event_attributes
        if signaled.signal_name != LEASE_SIGNAL:
            return
        report: LeaseReport = await self._decode(signaled.input.payloads, LeaseReport)
        loan = self._open_loan(report.child)
        if loan is not None and report.seq > loan.seq:
            loan.seq, loan.returned = report.seq, report.returned

    async def _answered(self, event: HistoryEvent) -> None:
        signal = event.signal_external_workflow_execution_initiated_event_attributes
        loan = self._open_loan(signal.workflow_execution.workflow_id)
        if signal.signal_name == LEASE_ANSWER_SIGNAL and loan is not None:
            answer: LeaseAnswer = await self._decode(signal.input.payloads, LeaseAnswer)
            loan.granted = Amount(
                tokens=max(loan.granted.tokens, answer.granted.tokens),
                cost_usd=max(loan.granted.cost_usd, answer.granted.cost_usd),
                model_calls=max(loan.granted.model_calls, answer.granted.model_calls),
                tool_calls=max(loan.granted.tool_calls, answer.granted.tool_calls),
            )

    async def _child_ended(self, event: HistoryEvent) -> None:
        name = event.WhichOneof("attributes") or ""
        attributes: Any = getattr(event, name, None)
        loan = self._loans.get(getattr(attributes, "initiated_event_id", 0)) if "child_workflow" in name else None
        if loan is None or event.event_type == EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_STARTED:
            return
        loan.is_over = True
        match event.event_type:
            case EventType.EVENT_TYPE_START_CHILD_WORKFLOW_EXECUTION_FAILED:
                loan.settled = NOTHING
            case EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_COMPLETED if loan.kind is not None:
                result: RunResult | MapPage = await self._decode(attributes.result.payloads, loan.kind)
                loan.settled = result.settled
                if loan.granted == NOTHING and isinstance(result, RunResult):
                    # A child of before there was a limit.
                    loan.settled = result.settled or result.counters.taken + (result.below or NONE_UNCOUNTED).taken
            case EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_FAILED:
                error = await self._error(attributes.failure)
                loan.settled = settled_in(error.attributes) if isinstance(error, PerdureError) else None
            case _:
                pass
