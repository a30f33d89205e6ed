"""`LeaseBook`: what a run has lent to its open children, and who is given more. Workflow side; pure.

A parent answers a child that needs more with what is free; when there is not enough it recalls what the others
don't use, and it denies only when nothing can come back any more: no open call, no lease that was not asked for.
Signals may overtake each other, so that they carry sums and counts: reports by `seq`, recalls by `recalls`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

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
    deadline: datetime | None = None
    deadlines: int = 0
    """How often the deadline had changed that the child was told last."""
    is_met: bool = False
    """What its last report asks for was granted before it came; it waits for the answer all the same."""

    @property
    def outstanding(self) -> Amount:
        return self.granted - self.returned

    @property
    def is_drained(self) -> bool:
        """Whether nothing can come back before it asks or ends."""
        is_asked_for = self.need is not None or (0 < self.recalls == self.honoured)
        return self._is_used_up or (is_asked_for and not self.is_busy)

    @property
    def _is_used_up(self) -> bool:
        left = self.outstanding - self.spent
        is_counted = max(left.model_calls, left.tool_calls) <= 0  # below nothing where they aren't bound
        return is_counted and left.tokens == 0 and left.cost_usd == 0

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
            deadline=self.deadline,
            deadlines=self.deadlines,
        )


class LeaseBook:
    """The loans of one run."""

    def __init__(self) -> None:
        """Lend nothing."""
        self._loans: dict[str, _Loan] = {}

    @property
    def outstanding(self) -> Amount:
        """What is lent: it counts as reserved."""
        tokens, cost, model_calls, tool_calls = 0, NOTHING.cost_usd, 0, 0
        for loan in self._loans.values():
            granted, returned = loan.granted, loan.returned
            tokens += granted.tokens - returned.tokens
            cost += granted.cost_usd - returned.cost_usd
            model_calls += granted.model_calls - returned.model_calls
            tool_calls += granted.tool_calls - returned.tool_calls
        return Amount(tokens=tokens, cost_usd=cost, model_calls=model_calls, tool_calls=tool_calls)

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
        return min(waiting, key=lambda need: _size(need.least), default=None)

    def open(self, child: str, amount: Amount, *, deadlines: int = 0) -> None:
        """Lend to a child that starts, and is told the deadline as it is after so many changes."""
        self._loans[child] = _Loan(amount, deadlines=deadlines)

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
        on_its_way = NOTHING if report.granted is None else loan.granted - report.granted
        loan.returned, loan.spent, loan.need = report.returned, report.spent, _need_in(report, on_its_way)
        # A grant that the report has crossed will be used, or come back: it is no drained child.
        loan.seq, loan.is_busy = report.seq, report.is_busy or on_its_way != NOTHING
        loan.is_met = report.need is not None and loan.need is None
        if not report.is_busy:
            loan.honoured = report.recalls
        return True

    def answer_met(self) -> list[tuple[str, LeaseAnswer]]:
        """Answer those who were granted what they ask for before they asked."""
        met = [(child, loan) for child, loan in self._loans.items() if loan.is_met]
        for _, loan in met:
            loan.is_met = False
        return [(child, loan.answer()) for child, loan in met]

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

    def tell_deadline(self, deadline: datetime | None, deadlines: int) -> Iterator[tuple[str, LeaseAnswer]]:
        """Tell those who don't know it yet when the time is over."""
        for child, loan in self._loans.items():
            if loan.is_started and loan.deadlines < deadlines:
                loan.deadline, loan.deadlines = deadline, deadlines
                yield child, loan.answer().model_copy(update={"seq": 0})

    def deny(self) -> list[tuple[str, LeaseAnswer]]:
        """Tell those who wait, but for the patient, that nothing is left."""
        answers: list[tuple[str, LeaseAnswer]] = []
        for child, loan in self._waiting():
            if loan.need is not None and not loan.need.is_patient:
                loan.need, loan.is_busy = None, True
                answers.append((child, loan.answer(is_denied=True)))
        return answers


def _need_in(report: LeaseReport, on_its_way: Amount) -> Need | None:
    """Return what a child needs beyond what it will have anyway; None where it needs nothing."""
    if report.need is None:
        return None
    need = Need(report.need, report.least or report.need, report.is_patient)
    if on_its_way == NOTHING:
        return need
    need = Need(beyond(need.amount, on_its_way), beyond(need.least, on_its_way), need.is_patient)
    return None if need.amount == NOTHING else need


def _size(amount: Amount) -> tuple[Decimal, int, int, int]:
    return amount.cost_usd, amount.tokens, amount.model_calls, amount.tool_calls


def less(free: Budget, taken: Amount) -> Budget:
    """Return what is left of a budget; never below nothing."""
    return Budget(
        tokens=None if free.tokens is None else max(free.tokens - taken.tokens, 0),
        cost_usd=None if free.cost_usd is None else max(free.cost_usd - taken.cost_usd, NOTHING.cost_usd),
        model_calls=None if free.model_calls is None else max(free.model_calls - taken.model_calls, 0),
        tool_calls=None if free.tool_calls is None else max(free.tool_calls - taken.tool_calls, 0),
    )


def beyond(need: Amount, here: Amount) -> Amount:
    """Return what of a need is not here."""
    more = need - here
    return Amount(
        tokens=max(more.tokens, 0),
        cost_usd=max(more.cost_usd, NOTHING.cost_usd),
        model_calls=max(more.model_calls, 0),
        tool_calls=max(more.tool_calls, 0),
    )


def whole_of(free: Budget) -> Amount:
    """Return all that is left of a budget; nothing of what is not bound."""
    return share_of(free, 1)


def share_of(free: Budget, count: int) -> Amount:
    """Return one of `count` equal shares of what is free; nothing of what is not bound."""
    cost = NOTHING.cost_usd if free.cost_usd is None else free.cost_usd / count
    return Amount(
        tokens=(free.tokens or 0) // count,
        cost_usd=cost,
        model_calls=(free.model_calls or 0) // count,
        tool_calls=(free.tool_calls or 0) // count,
    )


def _share(free: Budget, need: Amount, count: int) -> Amount:
    return share_of(less(free, need), count)
