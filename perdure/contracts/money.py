"""How the limits stand that a run shares with all below it. Both sides."""

from datetime import datetime

from perdure.contracts._base import Contract
from perdure.contracts.budget import NOTHING, Amount, Budget


class MoneyStatus(Contract):
    """What a run, and all below it, has taken of its limits; the answer to the query `perdure.money`."""

    budget: Budget
    """What may be spent in all."""
    spent: Amount = NOTHING
    """Settled, as limits count it."""
    reserved: Amount = NOTHING
    """Held back for open calls, and lent to runs below."""
    deadline: datetime | None = None
    """When their time is over; None where it has no bound."""
