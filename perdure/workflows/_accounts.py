"""`Account`: the purse of one run, or of one agent in its workflow's history, and its letters. Workflow side.

Accounts of one workflow write to each other at once; those of other workflows get signals.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta

from temporalio import workflow
from temporalio.exceptions import FailureError, is_cancelled_exception

from perdure.contracts.budget import NOTHING, Amount, Budget, Lease, LeaseAnswer, LeaseReport, Ledger, budget_of
from perdure.contracts.limits import Limits
from perdure.contracts.money import MoneyStatus
from perdure.contracts.names import LEASE_ANSWER_SIGNAL, LEASE_SIGNAL
from perdure.workflows._leases import Need, share_of
from perdure.workflows._purse import Purse


class Account:
    """What one run may spend; lends to children, and asks the parent for more.

    Attributes:
        purse: What is spent, reserved and lent.
        limits: What children take over besides their leases.
    """

    def __init__(
        self,
        ledger: Ledger,
        *,
        workflow_id: str,
        key: str = "",
        outer: "Account | None" = None,
        limits: Limits | None = None,
    ) -> None:
        """Go on with a ledger.

        Args:
            ledger: What is spent and reserved.
            workflow_id: Where children and parent write to.
            key: What the parent knows it by; the workflow id when empty.
            outer: The parent, where that is an account of the same workflow.
            limits: What children take over besides their leases.
        """
        self.purse = Purse(ledger, name=workflow_id, key=key)
        self.limits = limits or Limits()
        self._workflow_id = workflow_id
        self._outer = outer
        self._inner: dict[str, Account] = {}
        self._starting = 0
        self._open_before = 0
        self._obtaining = asyncio.Lock()

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

    def status(self) -> MoneyStatus:
        """Return how it stands."""
        return MoneyStatus(
            budget=self.budget, spent=self.ledger.spent, reserved=self.held, deadline=self.ledger.ends_at
        )

    def could_get(self, need: Amount) -> Lease | None:
        """Return the lease that would have to grow for so much; None where the run's own limit is in the way."""
        return self.ledger.lease if self.purse.could_get(need) else None

    def short_of(self, need: Amount) -> str:
        """Return the limit that is in the way of so much: the run's own, else that of the root of its tree."""
        taken = self.purse.taken + need
        own, lease = self.ledger.budget.short_of(taken), self.ledger.lease
        if own is not None or lease is None:
            return own or "max_cost_usd"
        name = (self.budget.short_of(taken) or "max_cost_usd").partition("=")[0]
        return f"{name} of {lease.root or lease.parent}"

    def change(self, **changes: object) -> None:
        """Change fields of the ledger."""
        self.purse.ledger = self.ledger.model_copy(update=changes)

    def raise_to(self, limits: Limits) -> None:
        """Set the bounds that `limits` has."""
        self.change(budget=self.ledger.budget.changed_by(limits))
        self.rebalance()

    def set_deadline(self, deadline: datetime | None) -> None:
        """Set when the run's own time is over; those below it are told."""
        self.purse.set_deadline(deadline)
        self.post()

    def tighten(self, limits: Limits) -> None:
        """Keep the limits of another agent too, where they are lower."""
        self.change(budget=self.ledger.budget.tightened(budget_of(limits)))

    def rebalance(self) -> None:
        """Give and ask anew, after a change."""
        self.purse.rebalance()
        self.post()

    async def obtain(
        self,
        need: Amount,
        least: Amount,
        *,
        is_patient: bool = False,
        unless: Callable[[], bool] = lambda: False,
        within: timedelta | None = None,
    ) -> bool:
        """Have so much held back, or what will do, and say whether it is; to be reserved at once.

        It comes from the parent, and from children that don't use it.

        Args:
            need: What a call can take at most.
            least: What will do where so much can't be had.
            is_patient: Wait until it is granted, and not only until it is denied.
            unless: Ends the wait.
            within: Ends the wait, too; None where nothing else should.
        """
        if self.ledger.lease is None and self.held == NOTHING:
            return False  # nothing can come back
        async with self._obtaining:
            return await self._obtain(Need(need, least, is_patient), unless, within)

    async def _obtain(self, need: Need, unless: Callable[[], bool], within: timedelta | None) -> bool:
        self.purse.ask(need)
        self.post()
        is_granted = False
        try:
            with suppress(TimeoutError):
                await workflow.wait_condition(lambda: not self.purse.is_waiting or unless(), timeout=within)
        finally:
            is_granted = self.purse.take_held()
            if not is_granted:
                self.rebalance()
        return is_granted

    async def lend(self, child: str) -> Lease:
        """Return the lease of a child that starts: an equal part of what is free, for each that is at work."""
        if not self._starting:
            self._open_before = len(self.purse.book)
        self._starting += 1
        try:
            await asyncio.sleep(0)  # those that start in the same step are counted; it makes no timer
            return self.lend_share(child, of=self._open_before + self._starting + 1)
        finally:
            self._starting -= 1

    def lend_share(self, child: str, *, of: int) -> Lease:
        """Return the lease of a child that starts: one of `of` equal parts of what is free."""
        return self.purse.lend(child, share_of(self.purse.free, of))

    def lend_nothing(self, child: str) -> Lease:
        """Return the lease of a child that may be none of ours: it can ask for what it needs."""
        return self.purse.lend(child, NOTHING)

    def started(self, child: str) -> None:
        """Note that a child can be written to."""
        self.purse.tell_started(child)
        self.rebalance()

    def close(self, child: str, settled: Amount | None) -> None:
        """Count a child that ended: by what it says, else its whole lease."""
        self.purse.close(child, settled)
        self.post()

    async def open_inner(self, key: str, budget: Budget) -> "Account":
        """Return the account of an agent that runs in the history of this workflow."""
        lease = await self.lend(key)
        inner = Account(
            Ledger(budget=budget, lease=lease),
            workflow_id=self._workflow_id,
            key=key,
            outer=self,
            limits=self.limits,
        )
        self._inner[key] = inner
        self.started(key)
        return inner

    def close_inner(self, key: str) -> None:
        """Count an agent of this history that ended; what it still holds is spent."""
        inner = self._inner.pop(key)
        self.close(key, inner.purse.taken)

    def on_letter(self, letter: LeaseReport | LeaseAnswer) -> None:
        """Hear from a child, or from the parent."""
        if isinstance(letter, LeaseReport):
            self.purse.on_report(letter)
        else:
            self.purse.on_answer(letter)
        self.post()

    def post(self, *, parent_run_id: str | None = None) -> list["asyncio.Task[None]"]:
        """Send what is to be sent; return what is on its way to other workflows.

        Args:
            parent_run_id: The run that reports are for; that of the parent's workflow id when None.
        """
        letters, self.purse.outbox = self.purse.outbox, []
        if not _is_running():
            return []
        sending: list[asyncio.Task[None]] = []
        for to, letter in letters:
            near = self._outer if isinstance(letter, LeaseReport) else self._inner.get(to)
            if near is not None:
                near.on_letter(letter)
                continue
            # The SDK's event loop keeps the task, until the workflow is thrown out of the worker's cache.
            run_id = parent_run_id if isinstance(letter, LeaseReport) else None
            sending.append(asyncio.create_task(self._send(to, letter, run_id)))
        return sending

    async def settle_up(self) -> None:
        """Give back what is free to a parent in another workflow, and wait until it has it.

        That is for the run which has lent it: one that was started again under its id meanwhile may have lent
        something else to a child of the same id.
        """
        self.purse.give_back()
        parent = workflow.info().parent
        sending = self.post(parent_run_id=None if parent is None else parent.run_id)
        if sending:
            await workflow.wait(sending)

    async def _send(self, to: str, letter: LeaseReport | LeaseAnswer, run_id: str | None) -> None:
        name = LEASE_SIGNAL if isinstance(letter, LeaseReport) else LEASE_ANSWER_SIGNAL
        try:
            await workflow.get_external_workflow_handle(to, run_id=run_id).signal(name, letter)
        except FailureError as error:
            lease = self.ledger.lease
            if is_cancelled_exception(error) or lease is None or not isinstance(letter, LeaseReport):
                return
            # The parent is closed: nobody will answer.
            self.on_letter(LeaseAnswer(granted=lease.granted, seq=lease.seq, is_denied=True))


def _is_running() -> bool:
    """Say whether the workflow runs; False while it is thrown out of a worker's cache."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
