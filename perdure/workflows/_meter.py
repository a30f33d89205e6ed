"""`Meter`: the ledger of one run, and the calls that it pays for. Workflow side.

Made when the first call is made under a limit of money or tokens; a run without one has none.
"""

from temporalio.exceptions import ActivityError, is_cancelled_exception

from perdure.contracts.budget import NOTHING, Amount, Budget, Ledger, PromptSize
from perdure.contracts.calls import CallModelRequest, CallModelResult
from perdure.contracts.limits import Limits
from perdure.contracts.spec import AgentSpec
from perdure.errors import ModelCallError, UserError, revive
from perdure.workflows._conversation import Conversation
from perdure.workflows._ledger import (
    DEFAULT_OUTPUT_TOKENS,
    FINISH_OUTPUT_TOKENS,
    Hold,
    prompt_tokens,
    reserve,
    settle,
    used_by,
    worst_case,
)


class OutOfBudget(Exception):
    """The next call could exceed a limit; it was not made."""

    def __init__(self, limit: str) -> None:
        """Say which, as `name=value`."""
        super().__init__(limit)
        self.limit = limit


class Meter:
    """Reserves the worst case of each call, and settles it.

    Attributes:
        ledger: What is spent and reserved.
    """

    def __init__(self, ledger: Ledger, conversation: Conversation) -> None:
        """Go on with a ledger."""
        self.ledger = ledger
        self._conversation = conversation

    @property
    def budget(self) -> Budget:
        """What may be spent in all."""
        return self.ledger.budget

    def raise_to(self, limits: Limits) -> None:
        """Set the bounds that `limits` has."""
        self.ledger = self.ledger.model_copy(update={"budget": bounded_by(self.budget, limits)})

    def tighten(self, limits: Limits) -> None:
        """Keep the limits of another agent too, where they are lower."""
        lower = self.budget.tightened(Budget(tokens=limits.max_total_tokens, cost_usd=limits.max_cost_usd))
        self.ledger = self.ledger.model_copy(update={"budget": lower})

    def reserve(self, spec: AgentSpec, request: CallModelRequest) -> Hold:
        """Hold back the worst case of a call.

        Raises:
            OutOfBudget: There is no room for it.
        """
        price = spec.models[request.model].price
        prompt = self._prompt_tokens(spec, request)
        keeps = spec.on_limit == "finish" and not request.is_final
        kept = worst_case(price, prompt, FINISH_OUTPUT_TOKENS) if keeps else NOTHING
        output = spec.settings.max_output_tokens or DEFAULT_OUTPUT_TOKENS
        found = reserve(self.ledger, self.budget, price, prompt=prompt, output=output, kept=kept)
        if found is None:
            least = self.ledger.spent + self.ledger.reserved + kept + worst_case(price, prompt, output)
            raise OutOfBudget(self.budget.short_of(least) or "max_cost_usd")
        self.ledger, hold = found
        return hold

    def settle_reply(
        self, spec: AgentSpec, request: CallModelRequest, hold: Hold, result: CallModelResult
    ) -> None:
        """Count what an answered call used, and remember how long its prompt was."""
        usage = result.usage
        is_saved = result.saved is not None
        used = NOTHING if is_saved else used_by(usage, spec.models[request.model].price, hold)
        self.ledger = settle(self.ledger, hold, used)
        if usage.input_tokens:
            counted = PromptSize(
                spec=spec.digest,
                model=request.model,
                slots=request.slots,
                tokens=usage.input_tokens,
                epoch=request.epoch,
            )
            self.ledger = self.ledger.model_copy(update={"prompt": counted})

    def settle_failure(self, hold: Hold, error: BaseException) -> None:
        """Count a call that failed: at its worst case, unless it is known to have cost nothing."""
        self.ledger = settle(self.ledger, hold, NOTHING if _is_free(error) else hold.amount)

    def _prompt_tokens(self, spec: AgentSpec, request: CallModelRequest) -> int:
        messages = self._conversation.messages()[: request.slots]
        return prompt_tokens(self.ledger, spec, request.model, messages, request.epoch)


def bounded_by(budget: Budget, limits: Limits) -> Budget:
    """Return a budget with the bounds that `limits` sets."""
    return Budget(
        tokens=budget.tokens if limits.max_total_tokens is None else limits.max_total_tokens,
        cost_usd=budget.cost_usd if limits.max_cost_usd is None else limits.max_cost_usd,
    )


def new_ledger(spent: Amount, limits: Limits) -> Ledger:
    """Return the ledger of a run that has spent so much and now has these limits."""
    return Ledger(spent=spent, budget=bounded_by(Budget(), limits))


def _is_free(error: BaseException) -> bool:
    """Say whether the vendor can't have billed any attempt of the call.

    A retried attempt reaches the vendor only where its predecessors are known to have cost nothing, so that the
    last failure speaks for all of them.
    """
    if not isinstance(error, ActivityError) or is_cancelled_exception(error) or error.cause is None:
        return False
    cause = revive(error.cause)
    return isinstance(cause, UserError) or (isinstance(cause, ModelCallError) and not cause.may_be_billed)
