"""Having a model choose an agent, on the account of the workflow: reserved before, settled after. Workflow side.

The workflow knows neither the agents' descriptions nor the model's price. So it is told first what a choice can
take at most, and the activity asks nothing that could take more.
"""

from temporalio.exceptions import ActivityError, is_cancelled_exception

from perdure.contracts.budget import NOTHING
from perdure.contracts.selection import ChoiceBounds, Selection, SelectRequest
from perdure.errors import UserError, revive
from perdure.workflows._accounts import Account
from perdure.workflows._calls import quote_selection, select_agent
from perdure.workflows._clock import Clock, LimitReached
from perdure.workflows._host import current_host


async def choose_on(account: Account, request: SelectRequest) -> Selection:
    """Have a model choose; where a limit is in the way, choose by rules, and say so in what is recorded.

    Raises:
        ActivityError: There is nothing to choose from.
    """
    await current_host().find_earlier()  # what was spent before a reset counts first
    quote = await quote_selection(request)
    if quote.bounds is None:
        return await _by_rules(request, quote.problem)
    try:
        bounds = await _reserve(account, quote.bounds)
    except LimitReached as reached:
        return await _by_rules(
            request, f"the limit {reached.limit} leaves no room to ask the model {quote.bounds.model}"
        )
    return await _ask(account, request.model_copy(update={"bounds": bounds}), bounds)


async def _reserve(account: Account, bounds: ChoiceBounds) -> ChoiceBounds:
    """Hold back the worst case of as many asks as there is room for, and return the bounds of these.

    Raises:
        LimitReached: There is room for none.
    """
    clock, one = _clock(account), bounds.most
    clock.left()
    if account.budget.cost_usd is not None and bounds.price is None and not account.limits.allow_unknown_prices:
        raise LimitReached("max_cost_usd, without a known price,")
    asks = _asks(account, bounds)
    if asks < bounds.asks:
        await account.obtain(one.times(bounds.asks), one, within=clock.remaining)
        asks = _asks(account, bounds)
    if not asks:
        raise LimitReached(account.short_of(one))
    account.change(reserved=account.ledger.reserved + one.times(asks))
    return bounds.model_copy(update={"asks": asks})


async def _ask(account: Account, request: SelectRequest, bounds: ChoiceBounds) -> Selection:
    held = used = bounds.most.times(bounds.asks)
    try:
        chosen = await select_agent(request, within=_clock(account).remaining)
        used = chosen.taken(bounds)
        return chosen
    except ActivityError as error:
        is_users = error.cause is not None and isinstance(revive(error.cause), UserError)
        used = NOTHING if is_users else held
        if is_users or is_cancelled_exception(error):
            raise
        return await _by_rules(request, f"the model {bounds.model} was asked, and its answer is lost")
    finally:
        ledger = account.ledger
        account.change(spent=ledger.spent + used, reserved=ledger.reserved - held)
        account.rebalance()


def _asks(account: Account, bounds: ChoiceBounds) -> int:
    """Return how many asks there is room for."""
    one, left = bounds.most, account.purse.free
    return next((asks for asks in range(bounds.asks, 0, -1) if left.holds(one.times(asks))), 0)


def _clock(account: Account) -> Clock:
    return Clock(lambda: None, lambda: account.ledger)


async def _by_rules(request: SelectRequest, why: str) -> Selection:
    note = f"{why}: chosen by rules" if why else ""
    return await select_agent(request.model_copy(update={"strategy": "rules", "note": note, "bounds": None}))
