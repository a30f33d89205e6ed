"""Running a child agent on a part of its parent's budget. Workflow side."""

from collections.abc import Awaitable, Callable
from functools import partial

from temporalio.common import TypedSearchAttributes

from perdure.contracts.budget import NONE_UNCOUNTED, NOTHING, SETTLED, Amount, Uncounted, settled_in
from perdure.contracts.limits import Limits
from perdure.contracts.run import EarlierRun, RunInput, RunResult
from perdure.errors import PerdureError
from perdure.workflows._accounts import Account
from perdure.workflows._host import current_host
from perdure.workflows._subagents import new_child_id, run_child


async def run_funded(
    request: RunInput,
    account: Account | None,
    *,
    of: int | None = None,
    limits: Limits | None = None,
    workflow_id: str | None = None,
    earlier: EarlierRun | None = None,
    note_uncounted: Callable[[Uncounted], None] | None = None,
    attributes: TypedSearchAttributes | None = None,
) -> RunResult:
    """Run an agent as a child, as `run_child` does.

    Args:
        request: The run's input; without a tenant it is for that of the caller.
        account: The parent's; None where no limit of money or tokens holds.
        of: The child begins with one of so many equal parts of what is free; when None, with an equal part among
            those that are at work.
        limits: The parent's, as far as children take them over; those of the account when None.
        workflow_id: The child's id; by call order when None.
        earlier: The run to go on from.
        note_uncounted: Is told what the child took, where there is no account.
        attributes: The search attributes that it begins with.
    """
    request = request if request.tenant else request.model_copy(update={"tenant": current_host().tenant})
    if account is None:
        run = partial(run_child, request, workflow_id=workflow_id, earlier=earlier, attributes=attributes)
        return await _run_uncounted(run, note_uncounted or (lambda _: None))
    child = workflow_id or new_child_id(request.agent)
    lease = await account.lend(child) if of is None else account.lend_share(child, of=of)
    inherited = inherit(request.limits, limits or account.limits)
    request = request.model_copy(update={"lease": lease, "limits": inherited})
    is_started, settled = False, None

    def note_start() -> None:
        nonlocal is_started
        is_started = True
        account.started(child)

    try:
        result = await run_child(
            request, workflow_id=child, earlier=earlier, on_started=note_start, attributes=attributes
        )
        settled = settled_by(result) if is_started else NOTHING  # else it was found: counted when it ran
        return result
    except PerdureError as error:
        settled = settled_in(error.attributes)
        error.attributes.pop(SETTLED, None)  # whoever passes the error on has taken another amount
        raise
    finally:
        account.close(child, settled)


async def _run_uncounted(run: Callable[..., Awaitable[RunResult]], note: Callable[[Uncounted], None]) -> RunResult:
    """Run a child that no limit counts; its parent may get one later."""
    taken: Uncounted | None = NONE_UNCOUNTED

    def note_start() -> None:
        nonlocal taken
        taken = None

    try:
        result = await run(on_started=note_start)
        taken = Uncounted(taken=result.counters.taken) + (result.below or NONE_UNCOUNTED)
        return result
    except PerdureError as error:
        settled = settled_in(error.attributes)
        error.attributes.pop(SETTLED, None)
        if settled is not None:
            taken = Uncounted(taken=settled)
        raise
    finally:
        note(taken or Uncounted(unknown=1))


def inherit(own: Limits, parents: Limits) -> Limits:
    """Return a child's limits with what it takes over: whether unknown prices are allowed."""
    return own.over(Limits(allow_unknown_prices=parents.allow_unknown_prices))


def settled_by(result: RunResult) -> Amount | None:
    """Return what a child took of its parent's budget; None where that isn't known."""
    if result.settled is not None or result.counters.usage.cost_usd is None:
        return result.settled
    return result.counters.taken
