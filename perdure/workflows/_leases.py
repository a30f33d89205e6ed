"""`LeaseBook`: what a run has lent to its open children, and who is given more. Workflow side; pure.

A parent answers a child that needs more with what is free; when there is not enough it recalls what the others
don't use, and it denies only when nothing can come back any more: no open call, no lease that was not asked for.
Signals may overtake each other, so that they carry sums and counts: reports by `seq`, recalls by `recalls`.
"""

from dataclasses import dataclass

from perdure.contracts.budget import NOTHING, Amount, Budget, LeaseAnswer, LeaseReport

_EXTRA_SHARES = 2
"""A child that asks is given, beside its need, its share of half of what is free."""


@dataclass(frozen=True)
class Need:
    """What somebody waits for."""

    amount: Amount
    least: Amount
    """What will do where so much can't be had."""
    is_patient: bool = False
    """It waits however long that takes."""


@dataclass
class _Loan:
    granted: Amount
    returned: Amount = NOTHING
    spent: Amount = NOTHING
    need: Need | None = None
    seq: int = 0
    is_busy: bool = True
    recalls: int = 0
    honoured: int = 0
    is_started: bool = False

    @property
    def outstanding(self) -> Amount:
        return self.granted - self.returned

    @property
    def is_drained(self) -> bool:
        """Whether nothing can come back before it asks or ends."""
        is_asked_for = self.need is not None or (0 < self.recalls == self.honoured)
        return self.outstanding == self.spent or (is_asked_for and not self.is_busy)

    @property
    def is_recallable(self) -> bool:
        """Whether it may hold something, and isn't asked for that already."""
        return self.is_started and self.need is None and self.honoured == self.recalls and not self.is_drained

    def grant(self, given: Amount) -> LeaseAnswer:
        """Lend more."""
        self.granted += given
        self.need, self.is_busy = None, True
        return self.answer()

    def answer(self, *, is_denied: bool = False) -> LeaseAnswer:
        """Return what the child is told: sums and counts, so that any order will do."""
        return LeaseAnswer(
            granted=self.granted,
            seq=self.seq,
            is_denied=is_denied,
            is_recalled=self.recalls > 0,
            recalls=self.recalls,
        )


class LeaseBook:
    """The loans of one run."""

    def __init__(self) -> None:
        """Lend nothing."""
        self._loans: dict[str, _Loan] = {}

    @property
    def outstanding(self) -> Amount:
        """What is lent: it counts as reserved."""
        tokens, cost = 0, NOTHING.cost_usd
        for loan in self._loans.values():
            tokens += loan.granted.tokens - loan.returned.tokens
            cost += loan.granted.cost_usd - loan.returned.cost_usd
        return Amount(tokens=tokens, cost_usd=cost)

    @property
    def is_busy(self) -> bool:
        """Whether more may come back."""
        return any(not loan.is_drained for loan in self._loans.values())

    def __len__(self) -> int:
        """Return how many children are open."""
        return len(self._loans)

    def __contains__(self, child: object) -> bool:
        """Say whether a child is open."""
        return child in self._loans

    def need(self, *, is_patient: bool) -> Need | None:
        """Return the least of the needs of the children which wait so; None when none does."""
        needs = [loan.need for loan in self._loans.values() if loan.need is not None]
        waiting = [need for need in needs if need.is_patient is is_patient]
        return min(waiting, key=lambda need: (need.least.cost_usd, need.least.tokens), default=None)

    def open(self, child: str, amount: Amount) -> None:
        """Lend to a child that starts."""
        self._loans[child] = _Loan(amount)

    def started(self, child: str) -> None:
        """Note that a child can be written to."""
        if child in self._loans:
            self._loans[child].is_started = True

    def close(self, child: str, settled: Amount | None) -> Amount:
        """Return what a child that ended counts for: all of its loan, unless it said what it spent."""
        loan = self._loans.pop(child)
        return loan.outstanding if settled is None else settled

    def note(self, report: LeaseReport) -> bool:
        """Take a child's report; False for one that came late."""
        loan = self._loans.get(report.child)
        if loan is None or report.seq <= loan.seq:
            return False
        loan.returned, loan.spent, loan.need = report.returned, report.spent, None
        if report.need is not None:
            loan.need = Need(report.need, report.least or report.need, report.is_patient)
        loan.seq, loan.is_busy = report.seq, report.is_busy
        if not report.is_busy:
            loan.honoured = report.recalls
        return True

    def grant(self, free: Budget) -> list[tuple[str, LeaseAnswer]]:
        """Give to those who wait, as far as `free` goes: what is neither spent, nor reserved, nor lent."""
        answers: list[tuple[str, LeaseAnswer]] = []
        for child, loan in self._waiting():
            if loan.need is not None and free.holds(loan.need.amount):
                given = loan.need.amount + _share(free, loan.need.amount, _EXTRA_SHARES * (len(self._loans) + 1))
                answers.append((child, loan.grant(given)))
                free = less(free, given)
        return answers

    def grant_least(self, free: Budget) -> list[tuple[str, LeaseAnswer]]:
        """Give those who wait what will do, and share out the rest."""
        answers: list[tuple[str, LeaseAnswer]] = []
        waiting = self._waiting()
        for number, (child, loan) in enumerate(waiting):
            if loan.need is not None and free.holds(loan.need.least):
                given = loan.need.least + _share(free, loan.need.least, len(waiting) - number)
                answer = loan.grant(given).model_copy(update={"is_least": True})
                answers.append((child, answer))
                free = less(free, given)
        return answers

    def _waiting(self) -> list[tuple[str, _Loan]]:
        """Return those who wait, the patient last."""
        waiting = [(child, loan) for child, loan in self._loans.items() if loan.need is not None]
        return sorted(waiting, key=lambda each: each[1].need is not None and each[1].need.is_patient)

    def recall(self) -> list[tuple[str, LeaseAnswer]]:
        """Ask those who may hold something to give back what they don't use."""
        asked = [(child, loan) for child, loan in self._loans.items() if loan.is_recallable]
        for _, loan in asked:
            loan.recalls += 1
        # It answers no report: a need that is on its way is neither granted nor denied by it.
        return [(child, loan.answer().model_copy(update={"seq": 0})) for child, loan in asked]

    def deny(self) -> list[tuple[str, LeaseAnswer]]:
        """Tell those who wait, but for the patient, that nothing is left."""
        answers: list[tuple[str, LeaseAnswer]] = []
        for child, loan in self._waiting():
            if loan.need is not None and not loan.need.is_patient:
                loan.need, loan.is_busy = None, True
                answers.append((child, loan.answer(is_denied=True)))
        return answers


def less(free: Budget, taken: Amount) -> Budget:
    """Return what is left of a budget; never below nothing."""
    return Budget(
        tokens=None if free.tokens is None else max(free.tokens - taken.tokens, 0),
        cost_usd=None if free.cost_usd is None else max(free.cost_usd - taken.cost_usd, NOTHING.cost_usd),
    )


def share_of(free: Budget, count: int) -> Amount:
    """Return one of `count` equal shares of what is free; nothing of what is not bound."""
    cost = NOTHING.cost_usd if free.cost_usd is None else free.cost_usd / count
    return Amount(tokens=(free.tokens or 0) // count, cost_usd=cost)


def _share(free: Budget, need: Amount, count: int) -> Amount:
    return share_of(less(free, need), count)
