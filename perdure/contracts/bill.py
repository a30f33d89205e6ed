"""What a run has paid itself, by agent and model. Both sides."""

from perdure.contracts._base import Contract
from perdure.contracts.usage import NO_USAGE, Usage


class BillItem(Contract):
    """What one agent's calls of one model used."""

    agent: str
    model: str
    """Empty where that was not recorded."""
    usage: Usage = NO_USAGE


class Bill(Contract):
    """What a run has paid itself, over its chain: not its children, nor runs that it was started again from."""

    items: tuple[BillItem, ...] = ()
    is_reset: bool = False
    """The run was reset: what it paid itself is what its history has behind that."""

    @property
    def usage(self) -> Usage:
        """All of it."""
        return sum((item.usage for item in self.items), NO_USAGE)

    def plus(self, agent: str, model: str, usage: Usage) -> "Bill":
        """Return the bill with a call more; one that cost nothing, since another run had paid it, is none."""
        if usage == NO_USAGE:
            return self
        items = list(self.items)
        for index, item in enumerate(items):
            if item.agent == agent and item.model == model:
                items[index] = item.model_copy(update={"usage": item.usage + usage})
                break
        else:
            items.append(BillItem(agent=agent, model=model, usage=usage))
        return self.model_copy(update={"items": tuple(items)})


class CarriedBill(Contract):
    """What a workflow of the user's own hands to the run that continues it."""

    bill: Bill = Bill()
    search_attributes: tuple[str, ...] = ()
    """Those of perdure's that the server has."""
