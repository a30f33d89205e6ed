"""The search attributes of child runs, known before these are started. Workflow side.

A run that has them from its start doesn't write them itself: that is an event, and a write to the server's list of
runs, less for each. Asking for them pays where many runs of an agent are started.
"""

from collections.abc import Mapping
from typing import Final

from temporalio import workflow
from temporalio.common import SearchAttributeKey, SearchAttributePair, TypedSearchAttributes
from temporalio.exceptions import ActivityError, is_cancelled_exception

from perdure.contracts.calls import FirstAttributesRequest
from perdure.workflows._calls import first_attributes

_FEW = 10
"""Runs that write theirs themselves, rather than have them asked for."""
_PATCH: Final = "perdure.first-attributes"
"""Runs of maps that began before there was this wrote them themselves."""


async def find_first_attributes(agent: str, tenant: str, *, runs: int) -> dict[str, str] | None:
    """Return what so many runs of an agent are to be started with; None where they write that themselves."""
    if runs <= _FEW or not workflow.patched(_PATCH):
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
