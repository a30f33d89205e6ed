"""Choosing an agent for a piece of work: what is asked, and what was chosen. Both sides."""

from typing import Annotated, Literal

from pydantic import Field

from perdure.contracts._base import Contract
from perdure.contracts.budget import Amount, amount_of, worst_case
from perdure.contracts.usage import NO_USAGE, Price, Usage

Strategy = Literal["rules", "model", "learned"]
Weight = Annotated[float, Field(ge=0, le=1e6, allow_inf_nan=False)]


class SelectBy(Contract):
    """How to choose an agent."""

    strategy: Strategy = "rules"
    """`rules` goes by tags and capabilities, `model` asks a model, `learned` goes by earlier outcomes."""
    tags: tuple[str, ...] = ()
    """What the agent had better have among its tags."""
    capabilities: tuple[str, ...] = ()
    """What the agent must have among its capabilities, whatever the strategy."""
    model: str | None = None
    """Asked by the strategy `model`; the first candidate's first model when None."""
    cost_weight: Weight = 1.0
    """What a dollar counts, in probability of success: by the strategy `learned`."""
    seconds_weight: Weight = 0.0
    """What a second counts, likewise."""


class ChoiceBounds(Contract):
    """What is reserved for having a model choose: nothing may be asked that could take more."""

    model: str
    price: Price | None = None
    """None when unknown."""
    asks: int = 1
    """Calls of the model, those included that fail."""
    prompt_tokens: int
    """The most that the prompt of each can be."""
    output_tokens: int
    """The most that the reply to each may have."""

    @property
    def most(self) -> Amount:
        """What one ask can take at most."""
        return worst_case(self.price, self.prompt_tokens, self.output_tokens)


class SelectRequest(SelectBy):
    """Choose one of several agents for a piece of work."""

    text: str = ""
    """The start of what the agent will be asked."""
    candidates: tuple[str, ...] = ()
    """Agents, the first preferred; all of the app when empty."""
    kind: str = ""
    """The `Task.kind` of the work."""
    bounds: ChoiceBounds | None = None
    """Set where the workflow has a limit that the choice is paid from."""
    note: str = ""
    """Why it is not chosen as was asked for at first; it goes into the result."""


class SelectionQuote(Contract):
    """What having a model choose can take at most; or the choice itself, where there is nothing to choose."""

    bounds: ChoiceBounds | None = None
    """None where no model needs to be asked, or none can be."""
    problem: str = ""
    """Why none can be."""


class Selection(Contract):
    """Which agent was chosen, and why."""

    agent: str
    strategy: Strategy = "rules"
    """The one that chose: another than asked for where `note` says so."""
    kind: str = ""
    why: str = ""
    note: str = ""
    """Why the strategy that was asked for could not be used; empty when it was."""
    usage: Usage = NO_USAGE
    """Of the model that was asked, if one was."""
    model: str = ""
    """Which was; empty where none was, and in choices of before this was told."""
    asks: int = 0
    """How often it was."""
    unsettled: int = 0
    """Of these, the calls that may be billed although nothing is known of their usage."""

    def taken(self, bounds: ChoiceBounds) -> Amount:
        """Return what the choice takes of a limit: what isn't known at its worst case."""
        if self.usage.cost_usd is None and bounds.price is not None:
            return bounds.most.times(self.asks)
        known = amount_of(self.usage, model_calls=self.asks - self.unsettled)
        return known + bounds.most.times(self.unsettled)
