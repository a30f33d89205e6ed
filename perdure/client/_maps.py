"""Maps: their input checked, their outcomes read from wherever they are, their progress added up. Client side."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from pydantic import JsonValue, ValidationError
from temporalio.client import Client, WorkflowQueryFailedError, WorkflowQueryRejectedError
from temporalio.service import RPCError

from perdure.contracts.limits import Limits
from perdure.contracts.map import (
    MAX_MAP_INPUT_BYTES,
    MAX_MAP_ITEMS,
    MapInput,
    MapOutcome,
    MapPage,
    MapProgress,
    MapResult,
    OnError,
)
from perdure.contracts.messages import ContentPart
from perdure.contracts.names import MAP_QUERY
from perdure.errors import InvalidInputError, PayloadTooLargeError
from perdure.map_history import read_outcomes

MapItems = Sequence[str | Sequence[ContentPart]]

_QUERY_TIMEOUT = timedelta(seconds=10)
_PAGES_AT_ONCE = 8


def map_input(
    agent: str,
    items: MapItems,
    *,
    max_parallel: int,
    on_error: OnError,
    limits: Limits | None,
    context: Mapping[str, JsonValue] | None,
    tenant: str,
) -> MapInput:
    """Return the input of a `MapWorkflow`.

    Raises:
        InvalidInputError: Too many items, or `max_parallel` out of range. Not retryable.
        PayloadTooLargeError: The items take more than 1.5 MB. Not retryable.
    """
    if len(items) > MAX_MAP_ITEMS:
        raise InvalidInputError(f"{len(items)} items are more than one map takes: give at most {MAX_MAP_ITEMS}.")
    try:
        request = MapInput(
            agent=agent,
            items=tuple(item if isinstance(item, str) else tuple(item) for item in items),
            max_parallel=max_parallel,
            on_error=on_error,
            limits=limits or Limits(),
            context=dict(context) if context else None,
            tenant=tenant,
        )
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False)[0]
        raise InvalidInputError(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}.") from None
    size = len(request.to_bytes())
    if size > MAX_MAP_INPUT_BYTES:
        raise PayloadTooLargeError(
            f"The items take {size} bytes, more than {MAX_MAP_INPUT_BYTES}: put them where a tool can read them "
            "and give their names, run several maps, or call map_agent from a workflow of your own (16 MB)."
        )
    return request


async def whole_result(client: Client, result: MapResult) -> MapResult:
    """Return a result with all its outcomes."""
    if not result.pages:
        return result
    gate = asyncio.Semaphore(_PAGES_AT_ONCE)

    async def read(page: MapPage) -> list[MapOutcome]:
        async with gate:
            return await _outcomes(client, page)

    pages = await asyncio.gather(*map(read, result.pages))
    outcomes = tuple(outcome for page in pages for outcome in page)
    return result.model_copy(update={"outcomes": outcomes, "pages": ()})


async def _outcomes(client: Client, page: MapPage) -> list[MapOutcome]:
    if page.is_whole:
        return list(page.outcomes)
    return await read_outcomes(client, page.workflow_id, page.run_id)


async def progress(client: Client, workflow_id: str) -> MapProgress:
    """Ask a map where it stands, and then its open nodes, which know more.

    Raises:
        RPCError, WorkflowQueryFailedError: The map can't answer.
    """
    whole = await _ask(client, workflow_id)
    nodes = await asyncio.gather(*(_ask(client, node) for node in whole.nodes), return_exceptions=True)
    done, failed, running = whole.done, whole.failed, 0
    for node in nodes:
        if isinstance(node, MapProgress):
            done, failed, running = done + node.done, failed + node.failed, running + node.running
        elif not isinstance(node, RPCError | WorkflowQueryFailedError | WorkflowQueryRejectedError):
            raise node
    known = {"done": done, "failed": failed}
    return whole.model_copy(update={**known, "running": running} if whole.nodes else known)


async def _ask(client: Client, workflow_id: str) -> MapProgress:
    handle = client.get_workflow_handle(workflow_id)
    answer: Any = await handle.query(MAP_QUERY, result_type=MapProgress, rpc_timeout=_QUERY_TIMEOUT)
    return answer
