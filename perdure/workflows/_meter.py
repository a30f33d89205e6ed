"""`Meter`: what the model calls of one conversation take of an account. Workflow side.

Made when the first call is made under a limit of money, tokens or calls; a run without one has none.
"""

from datetime import timedelta

from temporalio.exceptions import ActivityError, is_cancelled_exception

from perdure.contracts.budget import NOTHING, ONE_MODEL_CALL, Amount, PromptSize
from perdure.contracts.calls import CallModelRequest, CallModelResult
from perdure.contracts.spec import AgentSpec
from perdure.contracts.usage import Price
from perdure.errors import ModelCallError, UserError, revive
from perdure.workflows._accounts import Account
from perdure.workflows._clock import LimitReached
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

_LAST_WORDS = 300
"""Tokens at most of the message that asks for the last call, and what is around it."""
_ANSWER_TOKENS = 200
"""Of a subagent's answer, as a guess: a longer one leaves less room for the last call."""
_ONE_TOOL_CALL = Amount(tool_calls=1)


class Meter:
    """Reserves the worst case of each call, and settles it."""

    def __init__(self, account: Account, conversation: Conversation) -> None:
        """Pay from `account` for the prompts of `conversation`."""
        self.account = account
        self._conversation = conversation
        self._refused_tools = False

    async def reserve(
        self, spec: AgentSpec, request: CallModelRequest, *, within: timedelta | None = None
    ) -> Hold:
        """Hold back the worst case of a call; where the lease is too small, once the parent has made it larger.

        The reply is shortened only when nobody can give enough for a whole one.

        Args:
            spec: The agent.
            request: The call.
            within: How long the parent may take; None where nothing bounds it.

        Raises:
            LimitReached: There is no room for it.
        """
        price = spec.models[request.model].price
        prompt = self._prompt_tokens(spec, request)
        kept = NOTHING if request.is_final else self._keep(spec, request.model, prompt)
        if spec.shares_limits:
            self.account.purse.kept = kept
        output = spec.settings.max_output_tokens or DEFAULT_OUTPUT_TOKENS
        least = min(output, LEAST_OUTPUT_TOKENS)
        hold = self._reserve(price, prompt, output, output, kept)
        if hold is None and request.is_final and spec.shares_limits:
            hold = self._reserve(price, prompt, output, least, kept)  # to ask for more gives back what was kept
        if hold is None and (wanted := self._own_room(price, prompt, output, least, kept)):
            needs = [kept + worst_case(price, prompt, tokens) for tokens in (wanted, least)]
            await self.account.obtain(needs[0], needs[1], within=within)
            hold = self._reserve(price, prompt, output, least, kept)
        if hold is not None:
            return hold
        need = kept + worst_case(price, prompt, least)
        raise LimitReached(self.account.short_of(need), need)

    def _keep(self, spec: AgentSpec, model: int, prompt: int) -> Amount:
        """Return what is kept for the last call, where the agent makes one."""
        if spec.on_limit != "finish":
            return NOTHING
        price = spec.models[model].price
        if not spec.shares_limits:
            return worst_case(price, prompt, FINISH_OUTPUT_TOKENS)
        output = min(spec.settings.max_output_tokens or FINISH_OUTPUT_TOKENS, FINISH_OUTPUT_TOKENS)
        return worst_case(price, prompt + _LAST_WORDS, output)

    def keep_room(self, spec: AgentSpec, *, answers: int) -> None:
        """Keep room for the last call while others are lent what is free.

        Args:
            spec: The agent.
            answers: So many answers of subagents will be in the prompt by then.
        """
        if spec.shares_limits:
            ledger = self.account.ledger
            model = 0 if ledger.prompt is None else ledger.prompt.model
            prompt = prompt_tokens(ledger, spec, model, self._conversation.messages(), self._conversation.epoch)
            self.account.purse.kept = self._keep(spec, model, prompt + answers * _ANSWER_TOKENS)

    async def take_tool_calls(self, count: int, *, within: timedelta | None = None) -> int:
        """Count tool calls that are about to be made, and return how many may be."""
        self._refused_tools = False
        free = self.account.purse.left.tool_calls
        if free is not None and free < count:
            await self.account.obtain(Amount(tool_calls=count), _ONE_TOOL_CALL, within=within)
            free = self.account.purse.left.tool_calls or 0
            self._refused_tools = free < count
        taken = count if free is None else min(count, free)
        self.give_back_tool_calls(-taken)
        return taken

    def give_back_tool_calls(self, count: int) -> None:
        """Take back tool calls that were counted, and are not made yet."""
        self.account.change(spent=self.account.ledger.spent - Amount(tool_calls=count))
        self.account.rebalance()

    def check_tool_calls(self) -> None:
        """Go no further where no tool call can be made any more.

        An agent whose lease has none left may not need any: it is told so when it asks for one.

        Raises:
            LimitReached: There is none left.
        """
        purse = self.account.purse
        own = purse.ledger.budget.tool_calls
        is_own = own is not None and purse.taken.tool_calls >= own
        if is_own or (self._refused_tools and purse.left.tool_calls == 0):
            raise LimitReached(self.account.short_of(_ONE_TOOL_CALL), _ONE_TOOL_CALL)

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
        used = ONE_MODEL_CALL if is_saved else used_by(usage, spec.models[request.model].price, hold)
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
