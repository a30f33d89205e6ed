"""`Funds`: what a workflow may spend that is no agent's run: a plan, a map, a class of the user's. Workflow side.

Its limit comes with its start, in the memo. A lease of its parent's comes in a header, since its input is the
user's own, and what it had spent before it continued as new comes in another.
"""

from collections.abc import Mapping

from temporalio import workflow
from temporalio.api.common.v1 import Payload

from perdure.contracts.budget import NOTHING, Amount, Budget, Lease, LeaseAnswer, LeaseReport, Ledger, budget_of
from perdure.contracts.limits import SHARED_LIMITS, Limits
from perdure.contracts.money import MoneyStatus
from perdure.contracts.names import LEASE_HEADER, LEDGER_HEADER, LIMITS_MEMO
from perdure.errors import InvalidInputError
from perdure.workflows._accounts import Account
from perdure.workflows._bounds import check_amounts, check_not_below
from perdure.workflows._headers import read_header, write_header


class Funds:
    """The accounts of one workflow.

    Attributes:
        account: What is shared by all that it starts; None where no limit holds.
        reports_end: Whether the parent is told at the end what was not spent: the result doesn't say it.
        open_children: Runs of agents that are at work below it.
    """

    def __init__(self) -> None:
        """Have nothing, and no limit."""
        self.account: Account | None = None
        self.open_children = 0
        self.reports_end = False
        self._inline: list[Account] = []

    def open(self, headers: Mapping[str, Payload]) -> None:
        """Take what the workflow was started with."""
        limits: Limits = workflow.memo_value(LIMITS_MEMO, Limits(), type_hint=Limits)
        lease: Lease | None = read_header(headers, LEASE_HEADER, Lease)
        ledger: Ledger | None = read_header(headers, LEDGER_HEADER, Ledger)
        if ledger is None:
            began, time = workflow.now(), limits.wall_clock
            deadline = None if time is None else began + time
            ledger = Ledger(budget=budget_of(limits), lease=lease, began=began, deadline=deadline)
        self.reports_end = ledger.lease is not None
        if ledger.lease is not None or ledger.budget.is_bound or ledger.deadline is not None:
            self.open_with(ledger, limits)

    def open_with(self, ledger: Ledger, limits: Limits) -> None:
        """Share a budget among all that the workflow starts."""
        self.account = Account(ledger, workflow_id=workflow.info().workflow_id, limits=limits)

    def open_own(self, ledger: Ledger) -> Account:
        """Return the account of an inline agent that has a limit of its own, and no other above it."""
        account = Account(ledger, workflow_id=workflow.info().workflow_id)
        self._inline.append(account)
        return account

    async def open_inline(self, key: str, budget: Budget) -> Account | None:
        """Return the account of an inline agent that shares the workflow's; None where there is none."""
        if self.account is None:
            return None
        account = await self.account.open_inner(key, budget)
        self._inline.append(account)
        return account

    def close_inline(self, key: str, account: Account | None) -> None:
        """Count an inline agent that shared the workflow's account and ended."""
        if account is not None and self.account is not None:
            self._inline.remove(account)
            self.account.close_inner(key)

    def note_spent(self, amount: Amount) -> None:
        """Count what was spent before the workflow was reset."""
        if self.account is not None:
            self.account.change(spent=self.account.ledger.spent + amount)

    def headers_for(self, child: str) -> dict[str, Payload]:
        """Lend to a child that is no run of an agent, and return what tells it so."""
        assert self.account is not None, "without an account there is nothing to lend"
        return write_header(LEASE_HEADER, self.account.lend_nothing(child))

    def headers_on(self) -> dict[str, Payload]:
        """Return what tells the run that continues this one; children that are open end with this run."""
        if self.account is None:
            return {}
        spent = self.account.purse.taken
        return write_header(
            LEDGER_HEADER, self.account.ledger.model_copy(update={"spent": spent, "reserved": NOTHING})
        )

    async def settle_up(self) -> None:
        """Tell the parent what was not spent, where that is to be told."""
        if self.account is not None and self.reports_end:
            await self.account.settle_up()

    def hear_from_child(self, report: LeaseReport) -> None:
        """Take what a child gives back of its lease, and what it needs."""
        for account in (*([self.account] if self.account else ()), *self._inline):
            if report.child in account.purse.book:
                account.on_letter(report)
                return

    def hear_from_parent(self, answer: LeaseAnswer) -> None:
        """Take what the parent grants, denies or recalls."""
        if self.account is not None:
            self.account.on_letter(answer)

    def status(self) -> MoneyStatus | None:
        """Answer `perdure.money`; None where no limit holds."""
        return None if self.account is None else self.account.status()

    def set_limits(self, given: Limits) -> Limits:
        """Do the update `perdure.limit`."""
        assert self.account is not None, "the validator has refused it"
        self.account.limits = given.over(self.account.limits)
        self.account.raise_to(given)
        ledger = self.account.ledger
        if given.wall_clock is not None and ledger.began is not None:
            self.account.set_deadline(ledger.began + given.wall_clock)
        return ledger.budget.as_limits().over(self.account.limits)

    def check_limits(self, given: Limits) -> None:
        """Refuse limits that can't be set."""
        check_shared(given)
        if self.account is None:
            raise InvalidInputError(
                "The run was started without a limit for all that it starts, and it isn't known what that has "
                "taken: give one at the start, with --limit."
            )
        began = self.account.ledger.began
        if given.wall_clock is not None and began is None:
            raise InvalidInputError("wall_clock can't be set: the run was started without it.")
        if began is not None:
            check_not_below(given, "wall_clock", workflow.now() - began)
        check_amounts(given, self.account, open_children=self.open_children)


def check_shared(given: Limits) -> None:
    """Refuse limits that only the run of an agent can have.

    Raises:
        InvalidInputError: There is such a one, or none at all. Not retryable.
    """
    names = [name for name in Limits.model_fields if getattr(given, name) is not None]
    others = [name for name in names if name not in SHARED_LIMITS]
    if others or not names:
        told = f"{', '.join(others)} can't be" if others else "Nothing is"
        raise InvalidInputError(
            f"{told} set on a run that is no agent's: it takes {', '.join(SHARED_LIMITS[:-1])} and "
            f"{SHARED_LIMITS[-1]}."
        )
