"""`Meter`: what the model calls of one conversation take of an account. Workflow side.

Made when the first call is made under a limit of money or tokens; a run without one has none.
"""

from temporalio.exceptions import ActivityError, is_cancelled_exception

from perdure.contracts.budget import NOTHING, Amount, PromptSize
from perdure.contracts.calls import CallModelRequest, CallModelResult
from perdure.contracts.spec import AgentSpec
from perdure.contracts.usage import Price
from perdure.errors import ModelCallError, UserError, revive
from perdure.workflows._accounts import Account
from perdure.workflows._conversation import Conversation
from perdure.workflows._ledger import (
    DEFAULT_OUTPUT_TOKENS,
    FINISH_OUTPUT_TOKENS,
    LEAST_OUTPUT_TOKENS,
    Hold,
    prompt_tokens,
    reserve,
    settle,
    summary_frame,
    used_by,
    worst_case,
)


class OutOfBudget(Exception):
    """The next call could exceed a limit; it was not made.

    Attributes:
        limit: Which, as `name=value`.
        need: The least that would help.
    """

    def __init__(self, limit: str, need: Amount) -> None:
        """Say which, as `name=value`."""
        super().__init__(limit)
        self.limit = limit
        self.need = need


class Meter:
    """Reserves the worst case of each call, and settles it."""

    def __init__(self, account: Account, conversation: Conversation) -> None:
        """Pay from `account` for the prompts of `conversation`."""
        self.account = account
        self._conversation = conversation

    async def reserve(self, spec: AgentSpec, request: CallModelRequest) -> Hold:
        """Hold back the worst case of a call; where the lease is too small, once the parent has made it larger.

        The reply is shortened only when nobody can give enough for a whole one.

        Raises:
            OutOfBudget: There is no room for it.
        """
        price = spec.models[request.model].price
        prompt = self._prompt_tokens(spec, request)
        keeps = spec.on_limit == "finish" and not request.is_final
        kept = worst_case(price, prompt, FINISH_OUTPUT_TOKENS) if keeps else NOTHING
        output = spec.settings.max_output_tokens or DEFAULT_OUTPUT_TOKENS
        least = min(output, LEAST_OUTPUT_TOKENS)
        hold = self._reserve(price, prompt, output, output, kept)
        if hold is None and (wanted := self._own_room(price, prompt, output, least, kept)):
            needs = [kept + worst_case(price, prompt, tokens) for tokens in (wanted, least)]
            await self.account.obtain(needs[0], needs[1])
            hold = self._reserve(price, prompt, output, least, kept)
        if hold is not None:
            return hold
        need = kept + worst_case(price, prompt, least)
        raise OutOfBudget(self._short_of(need), need)

    def _short_of(self, need: Amount) -> str:
        """Return the limit that is in the way: the run's own, else that of the root of its tree."""
        account, taken = self.account, self.account.purse.taken + need
        own, lease = account.ledger.budget.short_of(taken), account.ledger.lease
        if own is not None or lease is None:
            return own or "max_cost_usd"
        name = (account.budget.short_of(taken) or "max_cost_usd").partition("=")[0]
        return f"{name} of {lease.root or lease.parent}"

    def _own_room(self, price: Price | None, prompt: int, output: int, least: int, kept: Amount) -> int:
        """Return how long a reply the run's own limits allow, whatever its lease is; 0 for less than `least`."""
        purse = self.account.purse
        taken = kept + purse.book.outstanding
        found = reserve(
            purse.ledger, purse.ledger.budget, price, prompt=prompt, output=output, least=least, kept=taken
        )
        return 0 if found is None else found[1].output_tokens

    def _reserve(self, price: Price | None, prompt: int, output: int, least: int, kept: Amount) -> Hold | None:
        purse = self.account.purse
        lent = purse.book.outstanding
        found = reserve(
            purse.ledger, purse.budget, price, prompt=prompt, output=output, least=least, kept=kept + lent
        )
        if found is None:
            return None
        purse.ledger, hold = found
        return hold

    def settle_reply(
        self, spec: AgentSpec, request: CallModelRequest, hold: Hold, result: CallModelResult
    ) -> None:
        """Count what an answered call used, and remember how long its prompt was."""
        usage = result.usage
        is_saved = result.saved is not None
        used = NOTHING if is_saved else used_by(usage, spec.models[request.model].price, hold)
        self.account.purse.ledger = settle(self.account.ledger, hold, used)
        if usage.input_tokens and request.summary is None:
            counted = PromptSize(
                spec=spec.digest,
                model=request.model,
                slots=request.slots,
                tokens=usage.input_tokens,
                epoch=request.epoch,
            )
            self.account.change(prompt=counted)
        self.account.rebalance()

    def give_back(self, hold: Hold) -> None:
        """Free what was held back for a call that is not made."""
        self.account.purse.ledger = settle(self.account.ledger, hold, NOTHING)
        self.account.rebalance()

    def settle_failure(self, hold: Hold, error: BaseException) -> None:
        """Count a call that failed: at its worst case, unless it is known to have cost nothing."""
        used = NOTHING if _is_free(error) else hold.amount
        self.account.purse.ledger = settle(self.account.ledger, hold, used)
        self.account.rebalance()

    def _prompt_tokens(self, spec: AgentSpec, request: CallModelRequest) -> int:
        messages = self._conversation.messages()[: request.slots]
        tokens = prompt_tokens(self.account.ledger, spec, request.model, messages, request.epoch)
        # A summariser is shown the same texts, with labels in place of JSON.
        return tokens if request.summary is None else tokens + summary_frame(spec, len(messages))


def _is_free(error: BaseException) -> bool:
    """Say whether the vendor can't have billed any attempt of the call.

    A retried attempt reaches the vendor only where its predecessors are known to have cost nothing, so that the
    last failure speaks for all of them.
    """
    if not isinstance(error, ActivityError) or is_cancelled_exception(error) or error.cause is None:
        return False
    cause = revive(error.cause)
    return isinstance(cause, UserError) or (isinstance(cause, ModelCallError) and not cause.may_be_billed)
