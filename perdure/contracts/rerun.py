"""Starting a run again from what is good of it: what it is told of the runs before. Both sides."""

from pydantic import JsonValue

from perdure.contracts._base import Contract
from perdure.contracts.budget import NOTHING, Amount
from perdure.contracts.run import Carried, EarlierRun


class FindEarlierResult(Contract):
    """Child runs of before, in the order of their start: they are not to be begun anew."""

    runs: tuple[EarlierRun, ...] = ()
    spent: Amount = NOTHING
    """What was taken of the workflow's limit after the point that it was reset to, and history doesn't say."""


class ResumeRunRequest(Contract):
    """Find out what is good of a run that is over."""

    run: EarlierRun
    with_items: bool = False
    """Of a map's node: tell the runs of its items in any case, for a node whose slice is cut otherwise."""


class ResumeRunResult(Contract):
    """What is good of a run."""

    result: JsonValue = None
    """Of a run that completed."""
    carried: Carried | None = None
    """Of an agent's run that did not: from where to go on; None where there is nothing."""
    spent: Amount | None = None
    """What such a run, and those before it, have taken of their limits."""
    runs: tuple[EarlierRun, ...] = ()
    """Of a map's node that did not complete, or was asked for them: the runs of its items. Where the map was
    started again more than once, those that nodes before it had are among them."""
