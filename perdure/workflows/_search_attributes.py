"""What a run tells the server's list of runs, in search attributes. Workflow side.

One that the server hasn't would wedge the run: only those are written that it had when the run was pinned.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from temporalio import workflow
from temporalio.common import (
    SearchAttributeKey,
    SearchAttributePair,
    SearchAttributeUpdate,
    TypedSearchAttributes,
)
from temporalio.exceptions import ActivityError, is_cancelled_exception

from perdure.contracts.calls import FirstAttributesRequest
from perdure.contracts.run import Counters
from perdure.workflows._calls import first_attributes

_FEW = 10
"""Runs that write their first ones themselves, rather than have them asked for."""
_FIRST_PATCH: Final = "perdure.first-attributes"
"""Runs of maps that began before there was this wrote them themselves."""


def write_attributes(known: Sequence[str], **values: str | float | None) -> None:
    """Upsert those that changed, of those that the server is known to have."""
    present = workflow.info().typed_search_attributes
    updates = [
        update
        for name, value in values.items()
        if name in known and value is not None
        if present.get((update := _update(name, value)).key) != value
    ]
    if updates:
        workflow.upsert_search_attributes(updates)


def told_state() -> str | None:
    """Return the state that the run's search attributes tell."""
    return workflow.info().typed_search_attributes.get(SearchAttributeKey.for_keyword("PerdureState"))


def sums_told(counters: Counters) -> dict[str, float | None]:
    """Return the search attributes of what a run has used so far."""
    cost = counters.usage.cost_usd
    return {
        "PerdureTurns": counters.turns,
        "PerdureTokens": counters.usage.total_tokens,
        "PerdureCostUsd": None if cost is None else float(cost),
    }


async def find_first_attributes(agent: str, tenant: str, *, runs: int) -> dict[str, str] | None:
    """Return what so many runs of an agent are to be started with; None where they write that themselves.

    A run that has them from its start has an event less, and the list a write. Asking pays where there are many.
    """
    if runs <= _FEW or not workflow.patched(_FIRST_PATCH):
        return None
    try:
        return (await first_attributes(FirstAttributesRequest(agent=agent, tenant=tenant))).values
    except ActivityError as error:
        if is_cancelled_exception(error):
            raise
        return None


def typed_attributes(values: Mapping[str, str] | None) -> TypedSearchAttributes | None:
    """Return them as the start of a child takes them."""
    if values is None:
        return None
    pairs = [SearchAttributePair(SearchAttributeKey.for_keyword(name), value) for name, value in values.items()]
    return TypedSearchAttributes(pairs)


def _update(name: str, value: str | float) -> SearchAttributeUpdate[Any]:
    if isinstance(value, str):
        return SearchAttributeKey.for_keyword(name).value_set(value)
    if isinstance(value, int):
        return SearchAttributeKey.for_int(name).value_set(value)
    return SearchAttributeKey.for_float(name).value_set(value)
