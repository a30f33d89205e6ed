"""What runs may spend, and what they have spent: money and tokens, reserved and settled. Both sides."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from pydantic import ValidationError

from perdure.contracts._base import Contract
from perdure.contracts.usage import Price, Usage

_PER_MILLION = Decimal(1_000_000)
MAX_ARTIFACT_TOKENS = 100_000
"""What is reserved for an artifact, and the most bytes that it may have in a prompt that is paid from a budget."""


class Amount(Contract):
    """Tokens and dollars. Sums are exact: dollars are decimals, never floats."""

    tokens: int = 0
    cost_usd: Decimal = Decimal(0)

    def __add__(self, other: "Amount") -> "Amount":
        """Return the sum."""
        return Amount(tokens=self.tokens + other.tokens, cost_usd=self.cost_usd + other.cost_usd)

    def __sub__(self, other: "Amount") -> "Amount":
        """Return the difference; it may be negative."""
        return Amount(tokens=self.tokens - other.tokens, cost_usd=self.cost_usd - other.cost_usd)


NOTHING = Amount()


class Budget(Contract):
    """The most that may be spent; None where there is no bound."""

    tokens: int | None = None
    cost_usd: Decimal | None = None

    @property
    def is_bound(self) -> bool:
        """Whether there is any bound."""
        return self.tokens is not None or self.cost_usd is not None

    def tightened(self, other: "Budget") -> "Budget":
        """Return the lower of each bound."""
        tokens = [each for each in (self.tokens, other.tokens) if each is not None]
        costs = [each for each in (self.cost_usd, other.cost_usd) if each is not None]
        return Budget(tokens=min(tokens, default=None), cost_usd=min(costs, default=None))

    def holds(self, amount: Amount) -> bool:
        """Say whether `amount` is within the bounds."""
        return self.short_of(amount) is None

    def short_of(self, amount: Amount) -> str | None:
        """Return the limit that `amount` would exceed, as `name=value`; None when it fits."""
        if self.cost_usd is not None and amount.cost_usd > self.cost_usd:
            return f"max_cost_usd={self.cost_usd}"
        if self.tokens is not None and amount.tokens > self.tokens:
            return f"max_total_tokens={self.tokens}"
        return None


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
            tokens=left.tokens if self.has_tokens else None, cost_usd=left.cost_usd if self.has_cost else None
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


def amount_of(usage: Usage) -> Amount:
    """Return what a usage takes from a budget; an unknown cost is none."""
    return Amount(tokens=usage.total_tokens, cost_usd=usage.cost_usd or Decimal(0))


def worst_case(price: Price | None, prompt: int, output: int) -> Amount:
    """Return the most that a call can take. Without a price it takes tokens alone."""
    if price is None:
        return Amount(tokens=prompt + output)
    cost = (prompt * _dearest_input(price) + output * price.output_usd) / _PER_MILLION
    return Amount(tokens=prompt + output, cost_usd=cost)


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
