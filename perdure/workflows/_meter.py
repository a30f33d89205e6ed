"""`Meter`: the ledger of one run, and the calls that it pays for. Workflow side.

Made when the first call is made under a limit of money or tokens; a run without one has none.
"""

import asyncio

from temporalio import workflow
from temporalio.exceptions import ActivityError, FailureError, is_cancelled_exception

from perdure.contracts.budget import (
    NOTHING,
    Amount,
    Budget,
    Lease,
    LeaseAnswer,
    LeaseReport,
    Ledger,
    PromptSize,
    amount_of,
)
from perdure.contracts.calls import CallModelRequest, CallModelResult
from perdure.contracts.limits import Limits
from perdure.contracts.names import LEASE_ANSWER_SIGNAL, LEASE_SIGNAL
from perdure.contracts.run import RunResult
from perdure.contracts.spec import AgentSpec
from perdure.contracts.usage import Price
from perdure.errors import ModelCallError, UserError, revive
from perdure.workflows._conversation import Conversation
from perdure.workflows._leases import share_of
from perdure.workflows._ledger import (
    DEFAULT_OUTPUT_TOKENS,
    FINISH_OUTPUT_TOKENS,
    LEAST_OUTPUT_TOKENS,
    Hold,
    budget_of,
    prompt_tokens,
    reserve,
    settle,
    summary_frame,
    used_by,
    worst_case,
)
from perdure.workflows._purse import Purse

_SENDING: set["asyncio.Task[None]"] = set()
"""The event loop keeps weak references only."""


class OutOfBudget(Exception):
    """The next call could exceed a limit; it was not made."""

    def __init__(self, limit: str) -> None:
        """Say which, as `name=value`."""
        super().__init__(limit)
        self.limit = limit


class Meter:
    """Reserves the worst case of each call, and settles it; lends to children, and asks the parent for more."""

    def __init__(self, ledger: Ledger, conversation: Conversation, *, workflow_id: str = "") -> None:
        """Go on with a ledger.

        Args:
            ledger: What is spent and reserved.
            conversation: Whose prompts are measured.
            workflow_id: Where children and parent write to; empty where nobody listens: leases stay as they are.
        """
        self.purse = Purse(ledger, name=workflow_id)
        self._conversation = conversation

    @property
    def ledger(self) -> Ledger:
        """What is spent and reserved."""
        return self.purse.ledger

    @property
    def budget(self) -> Budget:
        """What may be spent in all."""
        return self.purse.budget

    @property
    def held(self) -> Amount:
        """Reserved for open calls, and lent to open children."""
        return self.ledger.reserved + self.purse.book.outstanding

    def raise_to(self, limits: Limits) -> None:
        """Set the bounds that `limits` has."""
        self._set(budget=bounded_by(self.ledger.budget, limits))
        self.purse.rebalance()
        self.post()

    def tighten(self, limits: Limits) -> None:
        """Keep the limits of another agent too, where they are lower."""
        self._set(budget=self.ledger.budget.tightened(budget_of(limits)))

    async def reserve(self, spec: AgentSpec, request: CallModelRequest) -> Hold:
        """Hold back the worst case of a call; where the lease is too small, once the parent has made it larger.

        Raises:
            OutOfBudget: There is no room for it.
        """
        price = spec.models[request.model].price
        prompt = self._prompt_tokens(spec, request)
        keeps = spec.on_limit == "finish" and not request.is_final
        kept = worst_case(price, prompt, FINISH_OUTPUT_TOKENS) if keeps else NOTHING
        output = spec.settings.max_output_tokens or DEFAULT_OUTPUT_TOKENS
        for wanted in (output, min(output, LEAST_OUTPUT_TOKENS)):
            hold = self._reserve(price, prompt, output, kept)
            if hold is None and await self._wait_for(kept + worst_case(price, prompt, wanted)):
                hold = self._reserve(price, prompt, output, kept)
            if hold is not None:
                return hold
        least = self.purse.taken + kept + worst_case(price, prompt, output)
        raise OutOfBudget(self.budget.short_of(least) or "max_cost_usd")

    def _reserve(self, price: Price | None, prompt: int, output: int, kept: Amount) -> Hold | None:
        lent = self.purse.book.outstanding
        found = reserve(self.ledger, self.budget, price, prompt=prompt, output=output, kept=kept + lent)
        if found is None:
            return None
        self.purse.ledger, hold = found
        return hold

    async def _wait_for(self, need: Amount) -> bool:
        """Ask the parent, and say whether so much was granted."""
        if self.ledger.lease is None:
            return False
        self.purse.ask(need)
        self.post()
        await workflow.wait_condition(lambda: not self.purse.is_waiting)
        return self.purse.take_held()

    def lend(self, child: str, *, of: int) -> Lease:
        """Return the lease of a child that starts: one of `of` equal parts of what is free."""
        return self.purse.lend(child, share_of(self.purse.free, of))

    def started(self, child: str) -> None:
        """Note that a child can be written to."""
        self.purse.book.started(child)
        self.purse.rebalance()
        self.post()

    def close(self, child: str, result: RunResult | None) -> None:
        """Count a child that ended: by what its result says, else its whole lease."""
        settled = None
        if result is not None:
            usage = result.counters.usage
            settled = result.settled or (None if usage.cost_usd is None else amount_of(usage))
        self.purse.close(child, settled)
        self.post()

    def on_letter(self, letter: LeaseReport | LeaseAnswer) -> None:
        """Hear from a child, or from the parent."""
        if isinstance(letter, LeaseReport):
            self.purse.on_report(letter)
        else:
            self.purse.on_answer(letter)
        self.post()

    def post(self) -> None:
        """Send what is to be sent."""
        letters, self.purse.outbox = self.purse.outbox, []
        for to, letter in letters:
            task = asyncio.create_task(self._send(to, letter))
            _SENDING.add(task)
            task.add_done_callback(_SENDING.discard)

    async def _send(self, to: str, letter: LeaseReport | LeaseAnswer) -> None:
        name = LEASE_SIGNAL if isinstance(letter, LeaseReport) else LEASE_ANSWER_SIGNAL
        try:
            await workflow.get_external_workflow_handle(to).signal(name, letter)
        except FailureError as error:
            lease = self.ledger.lease
            if is_cancelled_exception(error) or lease is None or not isinstance(letter, LeaseReport):
                return
            # The parent is closed: nobody will answer.
            self.on_letter(LeaseAnswer(granted=lease.granted, seq=lease.seq, is_denied=True))

    def _set(self, **changes: object) -> None:
        self.purse.ledger = self.ledger.model_copy(update=changes)

    def settle_reply(
        self, spec: AgentSpec, request: CallModelRequest, hold: Hold, result: CallModelResult
    ) -> None:
        """Count what an answered call used, and remember how long its prompt was."""
        usage = result.usage
        is_saved = result.saved is not None
        used = NOTHING if is_saved else used_by(usage, spec.models[request.model].price, hold)
        self.purse.ledger = settle(self.ledger, hold, used)
        if usage.input_tokens and request.summary is None:
            counted = PromptSize(
                spec=spec.digest,
                model=request.model,
                slots=request.slots,
                tokens=usage.input_tokens,
                epoch=request.epoch,
            )
            self._set(prompt=counted)
        self.purse.rebalance()
        self.post()

    def give_back(self, hold: Hold) -> None:
        """Free what was held back for a call that is not made."""
        self.purse.ledger = settle(self.ledger, hold, NOTHING)
        self.purse.rebalance()
        self.post()

    def settle_failure(self, hold: Hold, error: BaseException) -> None:
        """Count a call that failed: at its worst case, unless it is known to have cost nothing."""
        self.purse.ledger = settle(self.ledger, hold, NOTHING if _is_free(error) else hold.amount)
        self.purse.rebalance()
        self.post()

    def _prompt_tokens(self, spec: AgentSpec, request: CallModelRequest) -> int:
        messages = self._conversation.messages()[: request.slots]
        tokens = prompt_tokens(self.ledger, spec, request.model, messages, request.epoch)
        # A summariser is shown the same texts, with labels in place of JSON.
        return tokens if request.summary is None else tokens + summary_frame(spec, len(messages))


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
