"""What a workflow paid itself, written for whoever adds up costs from the server's list of runs. Workflow side.

An agent's run tells its sum in search attributes, beside the agent and the model that it began with. Where these
don't tell all, since another model answered or another agent took over, the bill is in the memo, which the list
has too: so no history is read for it. A workflow that is no agent's run writes both, for its inline agents and for
models that chose agents.
"""

from collections.abc import Mapping
from typing import Final

from temporalio import workflow
from temporalio.api.common.v1 import Payload
from temporalio.common import SearchAttributeKey, SearchAttributeUpdate

from perdure.contracts.bill import Bill, CarriedBill
from perdure.contracts.calls import CallModelResult
from perdure.contracts.names import BILL_HEADER, BILL_MEMO
from perdure.contracts.selection import Selection
from perdure.contracts.usage import NO_USAGE, Usage
from perdure.workflows._calls import open_wait
from perdure.workflows._headers import read_header, write_header
from perdure.workflows._host import current_host

_PATCH: Final = "perdure.bill"
"""Runs that were at work before there was this told the sum alone, and nothing of inline agents."""

_AGENT = SearchAttributeKey.for_keyword("PerdureAgent")
_MODEL = SearchAttributeKey.for_keyword("PerdureModel")
_TENANT = SearchAttributeKey.for_keyword("PerdureTenant")
_TOKENS = SearchAttributeKey.for_int("PerdureTokens")
_COST = SearchAttributeKey.for_float("PerdureCostUsd")


def note_paid(agent: str, result: CallModelResult) -> None:
    """Count a model call."""
    host = current_host()
    host.bill = host.bill.plus(agent, result.message.model, result.usage)


async def note_choice(chosen: Selection) -> None:
    """Count what a model took that chose an agent: it was nobody's call but the workflow's."""
    if chosen.usage == NO_USAGE:
        return
    host = current_host()
    if not host.known_attributes:
        open_bill((await open_wait()).search_attributes)
    host.bill = host.bill.plus("", chosen.model, chosen.usage)


def tell_bill(told: Usage) -> None:
    """Write the bill of an agent's run at its end, where search attributes with the sum `told` don't say it."""
    if not _is_told(told) and workflow.patched(_PATCH):
        _write_memo()


def _is_told(told: Usage) -> bool:
    host = current_host()
    bill, present = host.bill, workflow.info().typed_search_attributes
    if host.reset.has_happened or bill.usage != told or len(bill.items) > 1:
        return False
    return all(
        present.get(_AGENT, item.agent) == item.agent and present.get(_MODEL, item.model) == item.model
        for item in bill.items
    )


def _write_memo() -> None:
    host = current_host()
    workflow.upsert_memo({BILL_MEMO: Bill(is_reset=True) if host.reset.has_happened else host.bill})


def open_bill(search_attributes: tuple[str, ...]) -> None:
    """Have a workflow of the user's own be found by who adds up costs, before its first inline agent asks a model.

    It is found then also when it is terminated, and can tell nothing.
    """
    host = current_host()
    host.known_attributes = search_attributes
    present = workflow.info().typed_search_attributes
    if _TOKENS.name not in search_attributes or _TOKENS in present or not workflow.patched(_PATCH):
        return
    updates: list[SearchAttributeUpdate[int] | SearchAttributeUpdate[str]] = [_TOKENS.value_set(0)]
    if host.tenant and _TENANT.name in search_attributes and _TENANT not in present:
        updates.append(_TENANT.value_set(host.tenant))
    workflow.upsert_search_attributes(updates)


def close_bill() -> None:
    """Write what a workflow that is no agent's run paid itself, at its end."""
    host = current_host()
    if not host.bill.items or not workflow.patched(_PATCH):
        return
    usage, known = host.bill.usage, host.known_attributes
    updates: list[SearchAttributeUpdate[int] | SearchAttributeUpdate[float]] = []
    if _TOKENS.name in known:
        updates.append(_TOKENS.value_set(usage.total_tokens))
    if _COST.name in known and usage.cost_usd is not None:
        updates.append(_COST.value_set(float(usage.cost_usd)))
    if updates:
        workflow.upsert_search_attributes(updates)
    _write_memo()


def take_bill(headers: Mapping[str, Payload]) -> None:
    """Go on with the bill of the run that this one continues."""
    carried: CarriedBill | None = read_header(headers, BILL_HEADER, CarriedBill)
    if carried is not None:
        current_host().bill = carried.bill
        open_bill(carried.search_attributes)


def bill_headers() -> dict[str, Payload]:
    """Return what tells the run that continues this one what was paid."""
    host = current_host()
    if not host.bill.items:
        return {}
    return write_header(BILL_HEADER, CarriedBill(bill=host.bill, search_attributes=host.known_attributes))
