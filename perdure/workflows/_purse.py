"""`Purse`: the ledger of one run, its loans to children, and its own lease. Workflow side; pure.

It says what is to be sent and sends nothing itself: `outbox` is emptied by whoever owns it. One level at a time: a
run talks to its parent and to its children, never beyond.

Who needs more is in a hurry, and then is denied when nothing can come back any more; or is patient, and then waits
until something does: an end of another run, or somebody who raises the limit of the root.

A run that answers with what it has at a limit keeps room for that last call: it neither lends it nor gives it
back. So it may hold one unused call, and no more, while another is denied.
"""

from datetime import datetime

from perdure.contracts.budget import NOTHING, Amount, Budget, Lease, LeaseAnswer, LeaseReport, Ledger
from perdure.workflows._leases import LeaseBook, Need, beyond, less, whole_of

Letter = tuple[str, LeaseReport | LeaseAnswer]


class Purse:
    """What one run of a tree may spend.

    Attributes:
        ledger: What is spent and reserved.
        book: What is lent to children.
        kept: Room for the run's last call, which stays here as far as there is any.
        outbox: What is to be sent, and to whom.
    """

    def __init__(self, ledger: Ledger, *, name: str = "", key: str = "") -> None:
        """Go on with a ledger; no child is open.

        Args:
            ledger: What is spent and reserved.
            name: The workflow id, where children write to.
            key: What the parent knows it by, if that isn't its workflow id.
        """
        self.ledger = ledger
        self.book = LeaseBook()
        self.kept = NOTHING
        self.outbox: list[Letter] = []
        self._name = name
        self._key = key or name
        self._need: Need | None = None
        self._held: Amount | None = None
        self._asked: Need | None = None
        self._is_refused = False
        self._told_busy = True
        self._deadlines = 0

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
    def left(self) -> Budget:
        """What is left, with the room for the last call."""
        return less(self.budget, self.taken)

    @property
    def free(self) -> Budget:
        """What is left to be lent, or given back."""
        return less(self.left, self.kept)

    @property
    def settled(self) -> Amount | None:
        """What the parent is told at the end; None where there is no lease."""
        lease = self.ledger.lease
        return None if lease is None else self.ledger.spent - lease.before

    @property
    def is_waiting(self) -> bool:
        """Whether the run waits for an answer to `ask`."""
        return self._need is not None

    def could_get(self, need: Amount) -> bool:
        """Say whether the parent could grant so much: no limit of the run's own is in the way."""
        return self._has_parent and less(self.ledger.budget, self.taken).holds(need)

    def set_deadline(self, deadline: datetime | None) -> None:
        """Set when the run's own time is over, and tell the children."""
        before = self.ledger.ends_at
        self.ledger = self.ledger.model_copy(update={"deadline": deadline})
        self._tell_deadline(before)

    def tell_started(self, child: str) -> None:
        """Note that a child can be written to; what has changed since it was lent something it is told now."""
        self.book.started(child)
        self._post_deadline()

    def _tell_deadline(self, before: datetime | None) -> None:
        if self.ledger.ends_at != before:
            self._deadlines += 1
            self._post_deadline()

    def _post_deadline(self) -> None:
        self.outbox += self.book.tell_deadline(self.ledger.ends_at, self._deadlines)

    def ask(self, need: Need) -> None:
        """Wait until so much is held back for a call, or what will do, or it is denied.

        What is needed includes the room for a last call, where the run keeps one.
        """
        self._need = need
        self.rebalance()

    def take_held(self) -> bool:
        """Free what was held back after `ask`, to be reserved at once; False when nothing is, and ask no more."""
        held, self._held, self._need = self._held, None, None
        if held is not None:
            self.ledger = self.ledger.model_copy(update={"reserved": self.ledger.reserved - held})
        return held is not None

    def lend(self, child: str, amount: Amount) -> Lease:
        """Return the lease of a child that starts."""
        self.book.open(child, amount, deadlines=self._deadlines)
        budget, lease = self.budget, self.ledger.lease
        return Lease(
            parent=self._name,
            root=self._name if lease is None else lease.root or lease.parent,
            granted=amount,
            has_tokens=budget.tokens is not None,
            has_cost=budget.cost_usd is not None,
            has_model_calls=budget.model_calls is not None,
            has_tool_calls=budget.tool_calls is not None,
            deadline=self.ledger.ends_at,
            deadlines=self._deadlines,
        )

    def close(self, child: str, settled: Amount | None) -> None:
        """Count a child that ended: what it said it spent, else its whole lease."""
        used = self.book.close(child, settled)
        self.ledger = self.ledger.model_copy(update={"spent": self.ledger.spent + used})
        self.rebalance()

    def on_report(self, report: LeaseReport) -> None:
        """Hear from a child."""
        if self.book.note(report):
            self.outbox += self.book.answer_met()
            self.rebalance()

    def on_answer(self, answer: LeaseAnswer) -> None:
        """Hear from the parent."""
        lease = self.ledger.lease
        if lease is None:
            return
        granted = lease.granted + beyond(answer.granted, lease.granted)
        recalls, ends_at = max(lease.recalls, answer.recalls), self.ledger.ends_at
        changes: dict[str, object] = {"granted": granted, "recalls": recalls, "is_recalled": recalls > 0}
        if answer.deadlines > lease.deadlines:
            changes |= {"deadline": answer.deadline, "deadlines": answer.deadlines}
        self._set_lease(lease, **changes)
        self._tell_deadline(ends_at)
        if answer.seq == lease.seq and self._asked is not None:
            self._asked, self._is_refused = None, answer.is_denied or answer.is_least
        self.rebalance()

    def give_back(self) -> None:
        """Give back what is free, since the run ends."""
        self._need = None
        if self._has_parent:
            self._report(None)

    def rebalance(self) -> None:
        """Give what there is to whoever waits; ask for what there isn't; give back what was recalled."""
        if self._need is None and not len(self.book) and self.ledger.lease is None:
            return  # a run by itself: this is called at every step
        self.outbox += self.book.grant(self.free)
        if self._need is not None and self.left.holds(self._need.amount):
            self._hold(self._need.amount)
        unmet = self._unmet(is_patient=False)
        if unmet is None or not self._seek(unmet):
            unmet = self._unmet(is_patient=True)
            if unmet is None:
                self._asked, self._is_refused = None, False
            else:
                self._seek(unmet)
        self._give_back_recalled()

    def _give_back_recalled(self) -> None:
        lease = self.ledger.lease
        if lease is None or not self._has_parent:
            return
        if self._asked is not None:
            if (self._told_busy and not self._is_busy) or self._spare != NOTHING:
                self._report(self._asked)
        elif lease.recalls > lease.honoured and not self._waits:
            self.outbox += self.book.recall()
            self._report(None)

    def _unmet(self, *, is_patient: bool) -> Need | None:
        if self._need is not None and self._need.is_patient is is_patient:
            return self._need
        return self.book.need(is_patient=is_patient)

    def _hold(self, amount: Amount) -> None:
        self._held, self._need = amount, None
        self.ledger = self.ledger.model_copy(update={"reserved": self.ledger.reserved + amount})

    @property
    def _waits(self) -> bool:
        return self._unmet(is_patient=False) is not None or self._unmet(is_patient=True) is not None

    @property
    def _has_parent(self) -> bool:
        return self.ledger.lease is not None and self.ledger.lease.parent != ""

    @property
    def _is_busy(self) -> bool:
        return self.ledger.reserved != NOTHING or self.book.is_busy

    def _seek(self, unmet: Need) -> bool:
        """Look for what is needed; False when it was denied, since nothing can come back."""
        if self._name:
            self.outbox += self.book.recall()
        is_in_reach = self._could_get(unmet)
        if is_in_reach and not self._is_refused:
            self._ask_parent(unmet)
            return True
        if self._is_busy:
            return True
        self._is_refused = False
        if self._make_do():
            return True
        if unmet.is_patient:
            if is_in_reach:
                self._ask_parent(unmet)
            return True
        self.outbox += self.book.deny()
        if self._need is not None and not self._need.is_patient:
            self._need = None
        return False

    def _could_get(self, unmet: Need) -> bool:
        """Say whether the parent could grant what will do; the room for the last call is for no child."""
        return self.could_get(unmet.least if unmet is self._need else unmet.least + self.kept)

    def _ask_parent(self, unmet: Need) -> None:
        if self._asked is None or (self._asked.is_patient and not unmet.is_patient):
            self._report(unmet)

    def _make_do(self) -> bool:
        """Give those who wait what will do; False where there isn't even that."""
        if self._need is not None and self.left.holds(self._need.least):
            self._hold(self._need.least)
            return True
        given = self.book.grant_least(self.free)
        self.outbox += given
        return bool(given)

    @property
    def _spare(self) -> Amount:
        assert self.ledger.lease is not None, "only a run with a lease has something to give back"
        return whole_of(less(self.ledger.lease.budget, self.taken + self.kept))

    def _missing(self, need: Need) -> Need:
        """Return what the parent must grant: some of the room for the last call is here, and all of it is to be.

        A need of the run's own includes it.
        """
        if self.kept == NOTHING:
            return need
        here = whole_of(self.left) - whole_of(self.free)
        kept = NOTHING if need is self._need else self.kept
        return Need(beyond(need.amount + kept, here), beyond(need.least + kept, here), need.is_patient)

    def _report(self, need: Need | None) -> None:
        """Give back what is free, and say what is needed; say nothing that is known."""
        lease = self.ledger.lease
        assert lease is not None, "only a run with a lease has somebody to report to"
        spare, is_busy = self._spare, self._is_busy
        if need is None and spare == NOTHING and is_busy:
            return  # it will be told when that is over
        returned, seq = lease.returned + spare, lease.seq + 1
        honoured = lease.honoured if is_busy else lease.recalls
        self._set_lease(lease, returned=returned, seq=seq, honoured=honoured)
        self._asked, self._told_busy = need, is_busy
        asked = None if need is None else self._missing(need)
        report = LeaseReport(
            child=self._key,
            seq=seq,
            returned=returned,
            need=None if asked is None else asked.amount,
            least=None if asked is None else asked.least,
            spent=self.ledger.spent - lease.before,
            is_busy=is_busy,
            is_patient=asked is not None and asked.is_patient,
            recalls=lease.recalls,
            granted=lease.granted,
        )
        self.outbox.append((lease.parent, report))

    def _set_lease(self, lease: Lease, **changes: object) -> None:
        self.ledger = self.ledger.model_copy(update={"lease": lease.model_copy(update=changes)})
