"""`Allowance`: what one loop may take, by its limits and those of the tree that it is part of. Workflow side."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

from temporalio import workflow

from perdure.contracts.budget import NONE_UNCOUNTED, NOTHING, Amount, Budget, Lease, Ledger, Uncounted, budget_of
from perdure.contracts.limits import Limits
from perdure.contracts.messages import ToolCallPart
from perdure.contracts.run import Counters
from perdure.contracts.spec import AgentSpec
from perdure.errors import UserError
from perdure.workflows._accounts import Account
from perdure.workflows._clock import Clock, LimitReached
from perdure.workflows._conversation import Conversation
from perdure.workflows._decisions import limit_reached
from perdure.workflows._meter import Meter

_UNBOUNDED = 1_000_000_000
_RESERVED = ("max_total_tokens", "max_cost_usd")
_SHARED = ("max_model_calls", "max_tool_calls", "wall_clock")
_UNCOUNTED_PATCH = "perdure.uncounted"
"""Before there was this, a limit that was set later did not know of subagents that were over."""
_SUMMARISER_PATCH = "perdure.summariser-price"
"""Before there was this, a summariser without a price took nothing of a limit in dollars."""


@dataclass(frozen=True, slots=True)
class _Bounds:
    """What follows from limits: it is asked for several times a turn, and changes hardly ever."""

    raised: Limits
    spec: AgentSpec
    limits: Limits
    counted: Limits
    """The limits that are reached by counting; the others hold by reservations, and by the clock."""
    budget: Budget
    """What reservations keep."""


class Allowance:
    """Knows which limits hold for a loop, which is reached, and what pays for its calls.

    Attributes:
        spec: The agent that has the conversation.
        raised: The limits that were set while the run was open.
        uncounted: What subagents took that are over, while there was nothing to pay from.
        meter: What pays for model calls, once there is something to pay from.
        clock: When the time is over.
    """

    def __init__(
        self,
        spec: AgentSpec,
        conversation: Conversation,
        *,
        started_at: datetime,
        counters: Callable[[], Counters],
        raised: Limits | None,
        uncounted: Uncounted = NONE_UNCOUNTED,
        account: Account | None,
        new_account: Callable[[Ledger], Account],
    ) -> None:
        """Go on with what was raised, and an account if there is one."""
        self.spec = spec
        self.raised = raised or Limits()
        self.uncounted = uncounted
        self.meter = None if account is None else Meter(account, conversation)
        self.clock = Clock(self._own_time, self._ledger)
        self._is_shared = spec.shares_limits
        self._bounds = self._new_bounds()
        self._conversation = conversation
        self._started_at = started_at
        self._counters = counters
        self._new_account = new_account
        self._times_set = 0
        if account is not None:
            self._tell_time(account)

    @property
    def limits(self) -> Limits:
        """What holds now: what was set while the run was open, else what it is pinned to."""
        return self._current().limits

    def _current(self) -> _Bounds:
        if self._bounds.raised is not self.raised or self._bounds.spec is not self.spec:
            self._bounds = self._new_bounds()
        return self._bounds

    def _new_bounds(self) -> _Bounds:
        limits = self.raised.over(self.spec.limits)
        names = (*(_RESERVED if self.spec.is_metered else ()), *(_SHARED if self._is_shared else ()))
        return _Bounds(
            raised=self.raised,
            spec=self.spec,
            limits=limits,
            counted=limits.model_copy(update=dict.fromkeys(names)) if names else limits,
            budget=budget_of(self._reserved(limits)),
        )

    def set(self, given: Limits) -> None:
        """Change limits of the open run."""
        self.raised = given.over(self.raised)
        if self.meter is not None:
            self.meter.account.raise_to(self._reserved(given))
            self._tell_time(self.meter.account)
        self._times_set += 1

    def hand_over(self, spec: AgentSpec) -> None:
        """Keep the limits of another agent too, which has the conversation from now on."""
        before, self.spec = self._own_time(), spec
        after = self._own_time()
        if before is not None and (after is None or before < after):
            self.raised = Limits(wall_clock=before[0]).over(self.raised)
        if self.meter is not None:
            self.meter.account.tighten(self._reserved(spec.limits))
            self._tell_time(self.meter.account)

    def check(self, turns: int) -> None:
        """See whether there is room for another turn, after so many.

        Raises:
            LimitReached: There is none.
            UserError: A price is not known that must be. Not retryable.
        """
        self.clock.left()  # first: a wait for another limit ends with the time
        elapsed = workflow.now() - self._started_at
        limit = limit_reached(self._current().counted, self._counters(), elapsed, turns=turns)
        if limit is not None:
            raise LimitReached(limit)
        meter = self.open_meter() if self._is_shared else None
        if meter is not None:
            meter.check_tool_calls()

    def open_meter(self) -> Meter | None:
        """Return what pays for the next call; None where no limit of money, tokens, calls or shared time holds."""
        if self.meter is None and self.spec.is_metered:
            below, budget = self._below(), self._current().budget
            if budget.is_bound or self._own_time() is not None:
                ledger = Ledger(spent=self._counters().taken + below, budget=budget)
                self.meter = Meter(self._new_account(ledger), self._conversation)
                self._tell_time(self.meter.account)
        if self.meter is not None and self.meter.account.budget.cost_usd is not None:
            self._check_prices()
        return self.meter

    def open_account(self) -> Account | None:
        """Return what subagents are paid from, and have their time from; None where none of those limits holds."""
        meter = self.open_meter()
        return None if meter is None else meter.account

    def note_uncounted(self, taken: Uncounted) -> None:
        """Remember what a subagent took that is over."""
        self.uncounted += taken

    def _below(self) -> Amount:
        below = self.uncounted.taken
        return below if below != NOTHING and workflow.patched(_UNCOUNTED_PATCH) else NOTHING

    async def room_for_tools(self, count: int, made: int) -> int:
        """Return how many of so many tool calls may be made, after those that were."""
        meter = self.open_meter() if self._is_shared else None
        if meter is not None:
            return await meter.take_tool_calls(count, within=self.clock.remaining)
        return min(count, max((self.limits.max_tool_calls or _UNBOUNDED) - made, 0))

    def keep_room(self, calls: Sequence[ToolCallPart]) -> None:
        """Keep room for the run's last call while subagents are lent what is free."""
        tools = (self.spec.tool(call.name) for call in calls)
        answers = sum(tool is not None and tool.agent != "" for tool in tools)
        if answers and self.meter is not None:
            self.meter.keep_room(self.spec, answers=answers)

    def give_back_tools(self, count: int) -> None:
        """Take back tool calls of a turn that another run goes on with, and counts."""
        if self._is_shared and self.meter is not None:
            self.meter.give_back_tool_calls(count)

    def where(self, reached: LimitReached) -> str:
        """Return the run whose limit has to be raised; empty for the run's own."""
        lease = self._lease_of(reached)
        return "" if lease is None else lease.root or lease.parent

    async def wait(self, reached: LimitReached, should_stop: Callable[[], bool]) -> None:
        """Wait until a limit is set, here or above; no worker is needed meanwhile.

        The wait for another limit ends with the time, for that to be raised as well.
        """
        seen, deadline = self._times_set, self.clock.deadline

        def is_over() -> bool:
            return self._times_set > seen or should_stop() or self.clock.deadline != deadline

        within = None if reached.limit == self.clock.limit else self.clock.remaining
        account = None if self.meter is None else self.meter.account
        if account is not None and reached.need is not None and self._lease_of(reached) is not None:
            await account.obtain(reached.need, reached.need, is_patient=True, unless=is_over, within=within)
        else:
            with suppress(TimeoutError):
                await workflow.wait_condition(is_over, timeout=within)

    def _lease_of(self, reached: LimitReached) -> Lease | None:
        """Return the lease that would have to change; None where the run's own limit is in the way."""
        if self.meter is None:
            return None
        if reached.need is not None:
            return self.meter.account.could_get(reached.need)
        is_time = self.clock.is_inherited and reached.limit == self.clock.limit
        return self.meter.account.ledger.lease if is_time else None

    def _reserved(self, limits: Limits) -> Limits:
        """Return limits without those that an account of before did not count."""
        return limits if self._is_shared else _without_shared(limits)

    def _ledger(self) -> Ledger | None:
        return self.meter.account.ledger if self._is_shared and self.meter is not None else None

    def _own_time(self) -> tuple[timedelta, datetime] | None:
        time = self.limits.wall_clock if self._is_shared else None
        return None if time is None else (time, self._started_at + time)

    def _tell_time(self, account: Account) -> None:
        own = self._own_time()
        account.set_deadline(None if own is None else own[1])

    def _check_prices(self) -> None:
        """Refuse to spend of a parent's dollars what can't be counted."""
        unknown = self.spec.unpriced_models
        if not unknown or self.limits.allow_unknown_prices:
            return
        answers = any(model.price is None for model in self.spec.models)
        if answers or workflow.patched(_SUMMARISER_PATCH):
            raise UserError(f"max_cost_usd can't hold: the price of {', '.join(unknown)} is not known.")


def budget_under(spec: AgentSpec, limits: Limits) -> Budget:
    """Return what limits let the run of an agent take, so far as that is reserved."""
    return budget_of(limits if spec.shares_limits else _without_shared(limits))


def _without_shared(limits: Limits) -> Limits:
    return limits.model_copy(update=dict.fromkeys(_SHARED))
