"""`Purse`: the ledger of one run, its loans to children, and its own lease. Workflow side; pure.

It says what is to be sent and sends nothing itself: `outbox` is emptied by whoever owns it. One level at a time: a
run talks to its parent and to its children, never beyond.
"""

from perdure.contracts.budget import NOTHING, Amount, Budget, Lease, LeaseAnswer, LeaseReport, Ledger
from perdure.workflows._leases import LeaseBook, less

Letter = tuple[str, LeaseReport | LeaseAnswer]


class Purse:
    """What one run of a tree may spend.

    Attributes:
        ledger: What is spent and reserved.
        book: What is lent to children.
        outbox: What is to be sent, and to whom.
    """

    def __init__(self, ledger: Ledger, *, name: str = "") -> None:
        """Go on with a ledger; no child is open."""
        self.ledger = ledger
        self.book = LeaseBook()
        self.outbox: list[Letter] = []
        self._name = name
        self._need: Amount | None = None
        self._held: Amount | None = None
        self._asked: Amount | None = None
        self._is_refused = False
        self._told_busy = True

    @property
    def budget(self) -> Budget:
        """What may be spent in all."""
        lease = self.ledger.lease
        return self.ledger.budget if lease is None else self.ledger.budget.tightened(lease.budget)

    @property
    def taken(self) -> Amount:
        """Spent, reserved and lent."""
        return self.ledger.spent + self.ledger.reserved + self.book.outstanding

    @property
    def free(self) -> Budget:
        """What is left."""
        return less(self.budget, self.taken)

    @property
    def is_waiting(self) -> bool:
        """Whether the run waits for an answer to `ask`."""
        return self._need is not None

    def ask(self, need: Amount) -> None:
        """Wait until so much is held back for a call, or denied."""
        self._need = need
        self.rebalance()

    def take_held(self) -> bool:
        """Free what was held back after `ask`, to be reserved at once; False when it was denied."""
        held, self._held = self._held, None
        if held is not None:
            self.ledger = self.ledger.model_copy(update={"reserved": self.ledger.reserved - held})
        return held is not None

    def lend(self, child: str, amount: Amount) -> Lease:
        """Return the lease of a child that starts."""
        self.book.open(child, amount)
        budget = self.budget
        return Lease(
            parent=self._name,
            granted=amount,
            has_tokens=budget.tokens is not None,
            has_cost=budget.cost_usd is not None,
        )

    def close(self, child: str, settled: Amount | None) -> None:
        """Count a child that ended: what it said it spent, else its whole lease."""
        used = self.book.close(child, settled)
        self.ledger = self.ledger.model_copy(update={"spent": self.ledger.spent + used})
        self.rebalance()

    def on_report(self, report: LeaseReport) -> None:
        """Hear from a child."""
        if self.book.note(report):
            self.rebalance()

    def on_answer(self, answer: LeaseAnswer) -> None:
        """Hear from the parent."""
        lease = self.ledger.lease
        if lease is None:
            return
        more = answer.granted - lease.granted
        granted = Amount(
            tokens=lease.granted.tokens + max(more.tokens, 0),
            cost_usd=lease.granted.cost_usd + max(more.cost_usd, NOTHING.cost_usd),
        )
        self._set_lease(lease, granted=granted, is_recalled=lease.is_recalled or answer.is_recalled)
        if answer.seq == lease.seq and self._asked is not None:
            self._asked, self._is_refused = None, answer.is_denied
        self.rebalance()

    def rebalance(self) -> None:
        """Give what there is to whoever waits; ask for what there isn't; give back what was recalled."""
        self.outbox += self.book.grant(self.free)
        if self._need is not None and self.free.holds(self._need):
            self._held, self._need = self._need, None
            self.ledger = self.ledger.model_copy(update={"reserved": self.ledger.reserved + self._held})
        unmet = self._need or self.book.need
        if unmet is None:
            self._is_refused, self._asked = False, None
        else:
            self._seek(unmet)
        lease = self.ledger.lease
        if lease is not None and lease.is_recalled and self._asked is None and not self._waits:
            self._report(None)
        elif self._asked is not None and self._told_busy and not self._is_busy:
            self._report(self._asked)

    @property
    def _waits(self) -> bool:
        return self._need is not None or self.book.need is not None

    @property
    def _is_busy(self) -> bool:
        return self.ledger.reserved != NOTHING or self.book.is_busy

    def _seek(self, unmet: Amount) -> None:
        if self._name:
            self.outbox += self.book.recall()
        lease = self.ledger.lease
        could_grow = lease is not None and lease.parent != "" and not self._is_refused
        if could_grow and less(self.ledger.budget, self.taken).holds(unmet):
            if self._asked is None:
                self._report(unmet)
            return
        if not self._is_busy:
            self.outbox += self.book.deny()
            self._need, self._is_refused = None, False

    def _report(self, need: Amount | None) -> None:
        """Give back what is free, and say what is needed; say nothing that is known."""
        lease = self.ledger.lease
        assert lease is not None, "only a run with a lease has somebody to report to"
        spare = less(lease.budget, self.taken)
        spare_amount = Amount(tokens=spare.tokens or 0, cost_usd=spare.cost_usd or NOTHING.cost_usd)
        is_busy = self._is_busy
        if need is None and spare_amount == NOTHING and is_busy == self._told_busy and lease.seq:
            return
        returned, seq = lease.returned + spare_amount, lease.seq + 1
        self._set_lease(lease, returned=returned, seq=seq)
        self._asked, self._told_busy = need, is_busy
        report = LeaseReport(child=self._name, seq=seq, returned=returned, need=need, is_busy=is_busy)
        self.outbox.append((lease.parent, report))

    def _set_lease(self, lease: Lease, **changes: object) -> None:
        self.ledger = self.ledger.model_copy(update={"lease": lease.model_copy(update=changes)})
