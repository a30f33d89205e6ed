"""What runs may spend, and what they have spent: money, tokens and calls, reserved and settled. Both sides."""

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any, TypeVar

from pydantic import ValidationError

from perdure.contracts._base import Contract
from perdure.contracts.limits import Limits
from perdure.contracts.usage import Price, Usage

N = TypeVar("N", int, Decimal)

_PER_MILLION = Decimal(1_000_000)
MAX_ARTIFACT_TOKENS = 100_000
"""What is reserved for an artifact, and the most bytes that it may have in a prompt that is paid from a budget."""


class Amount(Contract):
    """Tokens, dollars and calls. Sums are exact: dollars are decimals, never floats."""

    tokens: int = 0
    cost_usd: Decimal = Decimal(0)
    model_calls: int = 0
    tool_calls: int = 0

    def __add__(self, other: "Amount") -> "Amount":
        """Return the sum."""
        return Amount(
            tokens=self.tokens + other.tokens,
            cost_usd=self.cost_usd + other.cost_usd,
            model_calls=self.model_calls + other.model_calls,
            tool_calls=self.tool_calls + other.tool_calls,
        )

    def __sub__(self, other: "Amount") -> "Amount":
        """Return the difference; it may be negative."""
        return Amount(
            tokens=self.tokens - other.tokens,
            cost_usd=self.cost_usd - other.cost_usd,
            model_calls=self.model_calls - other.model_calls,
            tool_calls=self.tool_calls - other.tool_calls,
        )

    def times(self, count: int) -> "Amount":
        """Return so many of it."""
        return Amount(
            tokens=self.tokens * count,
            cost_usd=self.cost_usd * count,
            model_calls=self.model_calls * count,
            tool_calls=self.tool_calls * count,
        )


NOTHING = Amount()


class Uncounted(Contract):
    """What the runs below one took that are over, while no limit counted it."""

    taken: Amount = NOTHING
    unknown: int = 0
    """Runs that didn't say at their end what they took: they were cancelled, or ended from outside."""

    def __add__(self, other: "Uncounted") -> "Uncounted":
        """Return the sum."""
        return Uncounted(taken=self.taken + other.taken, unknown=self.unknown + other.unknown)


NONE_UNCOUNTED = Uncounted()
ONE_MODEL_CALL = Amount(model_calls=1)


class Budget(Contract):
    """The most that may be spent; None where there is no bound."""

    tokens: int | None = None
    cost_usd: Decimal | None = None
    model_calls: int | None = None
    tool_calls: int | None = None

    @property
    def is_bound(self) -> bool:
        """Whether there is any bound."""
        return self.bounds_money or self.model_calls is not None or self.tool_calls is not None

    @property
    def bounds_money(self) -> bool:
        """Whether money or tokens are bound: what a call takes of these is known only afterwards."""
        return self.tokens is not None or self.cost_usd is not None

    def tightened(self, other: "Budget") -> "Budget":
        """Return the lower of each bound."""
        return Budget(
            tokens=_lower(self.tokens, other.tokens),
            cost_usd=_lower(self.cost_usd, other.cost_usd),
            model_calls=_lower(self.model_calls, other.model_calls),
            tool_calls=_lower(self.tool_calls, other.tool_calls),
        )

    def changed_by(self, limits: Limits) -> "Budget":
        """Return the bounds with those that `limits` sets."""
        return Budget(
            tokens=self.tokens if limits.max_total_tokens is None else limits.max_total_tokens,
            cost_usd=self.cost_usd if limits.max_cost_usd is None else limits.max_cost_usd,
            model_calls=self.model_calls if limits.max_model_calls is None else limits.max_model_calls,
            tool_calls=self.tool_calls if limits.max_tool_calls is None else limits.max_tool_calls,
        )

    def as_limits(self) -> Limits:
        """Return the bounds as limits."""
        return Limits(
            max_total_tokens=self.tokens,
            max_cost_usd=self.cost_usd,
            max_model_calls=self.model_calls,
            max_tool_calls=self.tool_calls,
        )

    def holds(self, amount: Amount) -> bool:
        """Say whether `amount` is within the bounds."""
        return self.short_of(amount) is None

    def short_of(self, amount: Amount) -> str | None:
        """Return the limit that `amount` would exceed, as `name=value`; None when it fits."""
        if self.cost_usd is not None and amount.cost_usd > self.cost_usd:
            return f"max_cost_usd={self.cost_usd}"
        if self.tokens is not None and amount.tokens > self.tokens:
            return f"max_total_tokens={self.tokens}"
        if self.model_calls is not None and amount.model_calls > self.model_calls:
            return f"max_model_calls={self.model_calls}"
        if self.tool_calls is not None and amount.tool_calls > self.tool_calls:
            return f"max_tool_calls={self.tool_calls}"
        return None


def _lower(one: N | None, other: N | None) -> N | None:
    if one is None or other is None:
        return other if one is None else one
    return min(one, other)


def budget_of(limits: Limits) -> Budget:
    """Return the part of some limits that reservations keep."""
    return Budget().changed_by(limits)


class PromptSize(Contract):
    """How many tokens a prompt was, as its vendor counted them: what later prompts of the model begin with."""

    spec: str
    """Digest of the `AgentSpec` whose instructions and tools were part of it."""
    model: int
    """Index into the spec's models: every model counts in its own way."""
    slots: int
    """The prompt held slots 0 to `slots` - 1."""
    tokens: int
    epoch: int = 0


class LeaseReport(Contract):
    """A child to its parent: what it needs, and what it gives back; the argument of the signal `perdure.lease`.

    Sums are since the lease began, so that a report that comes late, or twice, changes nothing.
    """

    child: str
    """Workflow id."""
    seq: int
    """Grows with each report."""
    returned: Amount = NOTHING
    need: Amount | None = None
    """What it waits for; None when it waits for nothing."""
    least: Amount | None = None
    """What will do where so much can't be had: a call with a shorter reply."""
    spent: Amount = NOTHING
    """Settled, since the lease began."""
    is_busy: bool = False
    """More may come back, from a call that is open."""
    is_patient: bool = False
    """It waits for what it needs however long that takes, and is not to be denied."""
    recalls: int = 0
    """The last recall that it has heard of: what it did not use then is in `returned`."""
    granted: Amount | None = None
    """What it has heard of, since the lease began: more may be on its way. None from runs of before."""


class LeaseAnswer(Contract):
    """A parent to its child; the argument of the signal `perdure.lease_answer`."""

    granted: Amount = NOTHING
    """Since the lease began, what it began with included."""
    seq: int = 0
    """The report that it answers; 0 for none."""
    is_denied: bool = False
    is_least: bool = False
    """It was granted what will do, since there is no more."""
    is_recalled: bool = False
    """Whether it was ever recalled; `recalls` says how often."""
    recalls: int = 0
    """Recalls so far: at each, what is not used, or comes free when an open call ends, is to be given back."""
    deadline: datetime | None = None
    """When the time of all of them is over; set where it has changed since the lease began."""
    deadlines: int = 0
    """How often it has: of several answers, the one with the most knows best."""


class Lease(Contract):
    """A child's part of its parent's budget, as the child knows it."""

    parent: str
    """Workflow id."""
    root: str = ""
    """Workflow id of the run whose limit it is in the end: where that can be raised."""
    granted: Amount = NOTHING
    returned: Amount = NOTHING
    has_tokens: bool = False
    """Whether tokens are bound."""
    has_cost: bool = False
    """Whether dollars are bound."""
    has_model_calls: bool = False
    """Whether model calls are."""
    has_tool_calls: bool = False
    """Whether tool calls are."""
    deadline: datetime | None = None
    """When the time of all of them is over; None where it has no bound."""
    deadlines: int = 0
    """How often that has changed."""
    seq: int = 0
    """The last report."""
    is_recalled: bool = False
    recalls: int = 0
    """The last recall that it has heard of."""
    honoured: int = 0
    """The last recall after which nothing was left to give back."""
    before: Amount = NOTHING
    """What the child had spent before it was started again; its parent has counted that."""

    @property
    def budget(self) -> Budget:
        """What the lease lets the child spend in all."""
        left = self.granted - self.returned + self.before
        return Budget(
            tokens=left.tokens if self.has_tokens else None,
            cost_usd=left.cost_usd if self.has_cost else None,
            model_calls=left.model_calls if self.has_model_calls else None,
            tool_calls=left.tool_calls if self.has_tool_calls else None,
        )


class Ledger(Contract):
    """What a run has spent and what it holds back; it goes along when the run continues as new."""

    budget: Budget = Budget()
    """What may be spent in all."""
    spent: Amount = NOTHING
    """Settled: by the usage that the vendor reported, else at the worst case."""
    reserved: Amount = NOTHING
    """For calls that are open."""
    prompt: PromptSize | None = None
    """The last prompt that was counted."""
    lease: Lease | None = None
    """Where the budget is a part of the parent's."""
    began: datetime | None = None
    """When the first run of the chain did; set for a workflow that is no agent's run."""
    deadline: datetime | None = None
    """When the run's own time is over; None where it has no bound."""

    @property
    def ends_at(self) -> datetime | None:
        """When the time is over that the run has, by its own limit or that of a run above it."""
        inherited = None if self.lease is None else self.lease.deadline
        return min((each for each in (self.deadline, inherited) if each is not None), default=None)


def amount_of(usage: Usage, *, model_calls: int = 0, tool_calls: int = 0) -> Amount:
    """Return what so many calls take from a budget that used this together; an unknown cost is none."""
    return Amount(
        tokens=usage.total_tokens,
        cost_usd=usage.cost_usd or Decimal(0),
        model_calls=model_calls,
        tool_calls=tool_calls,
    )


def worst_case(price: Price | None, prompt: int, output: int) -> Amount:
    """Return the most that a model call can take. Without a price it takes no dollars."""
    if price is None:
        return Amount(tokens=prompt + output, model_calls=1)
    cost = (prompt * _dearest_input(price) + output * price.output_usd) / _PER_MILLION
    return Amount(tokens=prompt + output, cost_usd=cost, model_calls=1)


def _dearest_input(price: Price) -> Decimal:
    return max(price.input_usd, price.cached_input_usd or Decimal(0), price.cache_write_usd or Decimal(0))


SETTLED = "settled"
"""The attribute of a child's failure that says what it took of its parent's budget."""


def settled_in(attributes: Mapping[str, Any]) -> Amount | None:
    """Return what a child that failed says that it took; None where it doesn't."""
    given = attributes.get(SETTLED)
    try:
        return None if given is None else Amount.model_validate(given)
    except ValidationError:
        return None
