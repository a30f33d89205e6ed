"""What an agent's run begins to pay from, and what its parent is told at its end. Workflow side."""

from collections.abc import Sequence

from temporalio import workflow

from perdure.contracts.budget import (
    NONE_UNCOUNTED,
    NOTHING,
    SETTLED,
    Amount,
    LeaseAnswer,
    Ledger,
    Uncounted,
    budget_of,
)
from perdure.contracts.limits import Limits
from perdure.contracts.run import Counters, RunInput
from perdure.contracts.spec import AgentSpec
from perdure.errors import PerdureError, RunError
from perdure.workflows._accounts import Account
from perdure.workflows._allowance import budget_under
from perdure.workflows.loop import AgentLoop


def first_ledger(request: RunInput, spec: AgentSpec | None) -> Ledger | None:
    """Return the ledger that the run goes on with; a new one where its parent lends it something."""
    carried = request.carried
    if carried is not None and carried.ledger is not None and request.spent is None:
        return carried.ledger
    spent = request.spent or (NOTHING if carried is None else carried.counters.taken)
    raised = Limits() if carried is None else carried.raised
    budget = budget_of(raised) if spec is None else budget_under(spec, raised.over(spec.limits))
    if request.lease is not None:
        # What runs before this one took is their parent's business, and is counted there already.
        return Ledger(budget=budget, lease=request.lease.model_copy(update={"before": spent}), spent=spent)
    return Ledger(budget=budget, spent=spent) if request.spent is not None and budget.is_bound else None


def new_account(ledger: Ledger) -> Account:
    """Return the account of the run."""
    return Account(ledger, workflow_id=workflow.info().workflow_id)


def account_of(loop: AgentLoop | None) -> Account | None:
    """Return what a run at work pays from; None where no limit holds that is reserved."""
    meter = None if loop is None else loop.allowance.meter
    return None if meter is None else meter.account


def last_account(request: RunInput, loop: AgentLoop | None, answers: Sequence[LeaseAnswer]) -> Account | None:
    """Return the account that a run ends with; before it was at work, one that has heard `answers`."""
    if loop is not None:
        return account_of(loop)
    ledger = first_ledger(request, None)
    if ledger is None:
        return None
    account = new_account(ledger)
    for answer in answers:
        account.purse.on_answer(answer)
    return account


def taken_below(request: RunInput, loop: AgentLoop) -> Uncounted | None:
    """Return what runs below this one took, where the parent has nothing to pay from."""
    if request.depth == 0 or request.lease is not None:
        return None
    account, below = account_of(loop), loop.allowance.uncounted
    if account is not None:
        below = below.model_copy(update={"taken": account.purse.taken - loop.counters.taken})
    return None if below == NONE_UNCOUNTED else below


def with_costs(
    error: PerdureError, request: RunInput, loop: AgentLoop | None, counters: Counters, account: Account | None
) -> PerdureError:
    """Return an error that says what the run has cost, and what all of it took, where the parent wants to know."""
    known: dict[str, object] = {}
    if isinstance(error, RunError):
        cost = counters.usage.cost_usd
        known["cost_usd"] = None if cost is None else float(cost)
    taken = _taken_in_all(request, loop, counters, account)
    if taken is not None:
        known[SETTLED] = taken.model_dump(mode="json")
    return error.told_by("", **known) if known else error


def _taken_in_all(
    request: RunInput, loop: AgentLoop | None, counters: Counters, account: Account | None
) -> Amount | None:
    """Return what the parent is told; None where that isn't known, or nobody asks."""
    below = NONE_UNCOUNTED if loop is None else loop.allowance.uncounted
    settled = None if account is None else account.purse.settled
    if settled is not None or request.depth == 0 or below.unknown:
        return settled
    return counters.taken + below.taken if account is None else account.purse.taken
