"""`LeaseBook`: what a run has lent to its open children, and who is given more. Workflow side; pure.

A parent answers a child that needs more with what is free; when there is not enough it recalls what the others
don't use, and it denies only when nothing can come back any more: no open call, no lease that was not asked for.
"""

from dataclasses import dataclass

from perdure.contracts.budget import NOTHING, Amount, Budget, LeaseAnswer, LeaseReport

_EXTRA_SHARES = 2
"""A child that asks is given, beside its need, its share of half of what is free."""


@dataclass
class _Loan:
    granted: Amount
    returned: Amount = NOTHING
    need: Amount | None = None
    seq: int = 0
    is_busy: bool = True
    is_recalled: bool = False
    is_started: bool = False

    @property
    def outstanding(self) -> Amount:
        return self.granted - self.returned

    @property
    def is_drained(self) -> bool:
        """Whether nothing can come back before it asks or ends."""
        return not self.is_busy and (self.need is not None or (self.is_recalled and self.seq > 0))


class LeaseBook:
    """The loans of one run."""

    def __init__(self) -> None:
        """Lend nothing."""
        self._loans: dict[str, _Loan] = {}

    @property
    def outstanding(self) -> Amount:
        """What is lent: it counts as reserved."""
        total = NOTHING
        for loan in self._loans.values():
            total += loan.outstanding
        return total

    @property
    def is_busy(self) -> bool:
        """Whether more may come back."""
        return any(not loan.is_drained for loan in self._loans.values())

    @property
    def need(self) -> Amount | None:
        """The least that would help one of the children; None when none waits."""
        needs = [loan.need for loan in self._loans.values() if loan.need is not None]
        return min(needs, key=lambda need: (need.cost_usd, need.tokens), default=None)

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
        loan.returned, loan.need = report.returned, report.need
        loan.seq, loan.is_busy = report.seq, report.is_busy
        return True

    def grant(self, free: Budget) -> list[tuple[str, LeaseAnswer]]:
        """Give to those who wait, as far as `free` goes: what is neither spent, nor reserved, nor lent."""
        answers: list[tuple[str, LeaseAnswer]] = []
        for child, loan in self._loans.items():
            if loan.need is None or not free.holds(loan.need):
                continue
            given = loan.need + _share(free, loan.need, _EXTRA_SHARES * (len(self._loans) + 1))
            free = less(free, given)
            loan.granted += given
            loan.need, loan.is_busy = None, True
            answers.append((child, LeaseAnswer(granted=loan.granted, seq=loan.seq, is_recalled=loan.is_recalled)))
        return answers

    def recall(self) -> list[tuple[str, LeaseAnswer]]:
        """Ask those who were not asked yet to give back what they don't use."""
        asked = [(child, loan) for child, loan in self._loans.items() if loan.is_started and not loan.is_recalled]
        for _, loan in asked:
            loan.is_recalled = True
        return [(child, LeaseAnswer(granted=loan.granted, is_recalled=True)) for child, loan in asked]

    def deny(self) -> list[tuple[str, LeaseAnswer]]:
        """Tell those who wait that nothing is left."""
        answers: list[tuple[str, LeaseAnswer]] = []
        for child, loan in self._loans.items():
            if loan.need is not None:
                loan.need, loan.is_busy = None, True
                denial = LeaseAnswer(
                    granted=loan.granted, seq=loan.seq, is_denied=True, is_recalled=loan.is_recalled
                )
                answers.append((child, denial))
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
