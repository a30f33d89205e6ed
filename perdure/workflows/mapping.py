"""`map_agent`: an agent over many items, as a tree of runs that no history is too small for. Workflow side."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeVar, overload

from pydantic import JsonValue, TypeAdapter
from pydantic_core import to_json
from temporalio import workflow

from perdure.contracts.calls import ReadOutputRequest
from perdure.contracts.limits import Limits
from perdure.contracts.map import MAX_MAP_ITEMS, MapInput, MapItem, MapPage, MapSlice
from perdure.contracts.messages import ContentPart
from perdure.contracts.run import RunResult
from perdure.errors import InvalidInputError, PayloadTooLargeError, PerdureError
from perdure.workflows._calls import read_output
from perdure.workflows._host import current_host
from perdure.workflows._map_items import ItemRuns, Progress, context_size
from perdure.workflows._map_nodes import Nodes, read_outcomes, revived
from perdure.workflows._search_attributes import find_first_attributes
from perdure.workflows.gathering import gather

T = TypeVar("T")
Items = Sequence[str | Sequence[ContentPart]]

_DIRECT = 200
"""So many items are children of the caller itself."""
_MAX_ITEM_BYTES = 1_500_000
_MAX_INPUT_BYTES = 16_000_000
_MAX_RESULT_BYTES = 16_000_000
"""Of all items; more would fill the caller's history, which ends at 50 MiB."""
_PAGES_AT_ONCE = 4


@overload
async def map_agent(
    name: str,
    items: Items,
    *,
    max_parallel: int = 50,
    on_error: Literal["fail"] = "fail",
    output: type[T],
    limits: Limits | None = None,
    context: Mapping[str, JsonValue] | None = None,
) -> list[T]: ...
@overload
async def map_agent(
    name: str,
    items: Items,
    *,
    max_parallel: int = 50,
    on_error: Literal["collect"],
    output: type[T],
    limits: Limits | None = None,
    context: Mapping[str, JsonValue] | None = None,
) -> list[T | PerdureError]: ...
@overload
async def map_agent(
    name: str,
    items: Items,
    *,
    max_parallel: int = 50,
    on_error: Literal["fail", "collect"] = "fail",
    output: None = None,
    limits: Limits | None = None,
    context: Mapping[str, JsonValue] | None = None,
) -> list[Any]: ...


async def map_agent(
    name: str,
    items: Items,
    *,
    max_parallel: int = 50,
    on_error: Literal["fail", "collect"] = "fail",
    output: type[Any] | None = None,
    limits: Limits | None = None,
    context: Mapping[str, JsonValue] | None = None,
) -> list[Any]:
    """Run an agent on each of many items, and return the outputs in the items' order.

    Up to 200 items are child runs of the caller. More are dealt out to nodes, child workflows with a slice each,
    so that no history grows with the number of items. At most `max_parallel` runs of the agent are open at once,
    over the whole tree: that number is shared out to at most 20 nodes at work, a node that ends is followed by the
    next with the same share, and slices get smaller towards the end.

    Args:
        name: The agent.
        items: What it is asked, each a text or content parts; at most 20,000 items and 16 MB, 1.5 MB each.
        max_parallel: How many runs may be open at once.
        on_error: `fail` cancels the rest at the first failure and raises that, when every run has ended;
            `collect` puts typed failures into the list.
        output: The type to make of each output; text or plain JSON when None.
        limits: Of each run, over the agent's own.
        context: Values for the agent's instructions and tools.

    Raises:
        RunError: How the first run to fail ended; `attributes` has `item`, its index, and `agent`. Not retryable.
        UnknownAgentError: Not retryable.
        InvalidInputError: Too many items, or no window. Not retryable.
        PayloadTooLargeError: The items, an item or all outputs together are too large. Not retryable.
    """
    if max_parallel < 1:
        raise InvalidInputError(f"max_parallel={max_parallel} lets nothing run: give 1 or more.")
    host = current_host()
    request = MapInput(
        agent=name,
        items=tuple(item if isinstance(item, str) else tuple(item) for item in items),
        max_parallel=min(max_parallel, 10_000),
        on_error=on_error,
        limits=limits or Limits(),
        context=dict(context) if context else None,
        tenant=host.tenant,
        depth=host.depth,
    )
    sizes = item_sizes(request)
    prefix = f"{workflow.info().workflow_id}/{name}-map-{host.number(f'map {name}')}"
    values = await (_run_direct(request, prefix) if len(sizes) <= _DIRECT else _run_tree(request, sizes, prefix))
    if output is None:
        return values
    adapter: TypeAdapter[Any] = TypeAdapter(output)
    return [each if isinstance(each, PerdureError) else adapter.validate_python(each) for each in values]


def item_sizes(request: MapInput) -> list[int]:
    """Return the size of each item in bytes.

    Raises:
        InvalidInputError: Too many items. Not retryable.
        PayloadTooLargeError: An item is too large with the context, or all items are. Not retryable.
    """
    if len(request.items) > MAX_MAP_ITEMS:
        raise InvalidInputError(
            f"{len(request.items)} items are more than one map takes: "
            f"run one after another, over {MAX_MAP_ITEMS} each."
        )
    sizes = [_size(item) for item in request.items]
    largest = max(range(len(sizes)), key=sizes.__getitem__, default=0)
    context = context_size(request) if request.context else 0
    if sizes and sizes[largest] + context > _MAX_ITEM_BYTES:
        with_context = f" with the {context} of the context" if context else ""
        raise PayloadTooLargeError(
            f"Item {largest} takes {sizes[largest]} bytes{with_context}, more than {_MAX_ITEM_BYTES}: "
            "put it where a tool can read it, and give its name.",
            item=largest,
        )
    if sum(sizes) > _MAX_INPUT_BYTES:
        raise PayloadTooLargeError(
            f"The items take {sum(sizes)} bytes, more than {_MAX_INPUT_BYTES}: "
            "put them where a tool can read them, and give their names."
        )
    return sizes


def _size(item: MapItem) -> int:
    return len(to_json(item))


async def _run_direct(request: MapInput, prefix: str) -> list[Any]:
    progress = Progress(len(request.items), workflow.instance())
    attributes = await find_first_attributes(request.agent, request.tenant, runs=len(request.items))
    given = MapSlice(map=request, start=0, prefix=prefix, attributes=attributes)
    runs = ItemRuns(given, progress, max_bytes=_MAX_RESULT_BYTES)
    await runs.run()
    _check_size(runs.size)
    results = [(f"{prefix}/{index}", runs.results[index]) for index in range(len(request.items))]
    return await gather(*(_value(*each) for each in results), max_parallel=_PAGES_AT_ONCE)


async def _value(workflow_id: str, result: RunResult | PerdureError) -> Any:
    if isinstance(result, PerdureError) or result.output_slot is None:
        return result if isinstance(result, PerdureError) else result.output
    return (await read_output(ReadOutputRequest(workflow_id=workflow_id))).output


async def _run_tree(request: MapInput, sizes: list[int], prefix: str) -> list[Any]:
    size = 0

    def count(page: MapPage) -> None:
        nonlocal size
        size += page.size
        _check_size(size)

    nodes = Nodes(request, sizes, prefix=prefix, progress=Progress(len(sizes), workflow.instance()), on_page=count)
    pages = await nodes.run()
    read = await gather(*(read_outcomes(page) for page in pages), max_parallel=_PAGES_AT_ONCE)
    return [revived(outcome) or outcome.output for outcomes in read for outcome in outcomes]


def _check_size(size: int) -> None:
    if size > _MAX_RESULT_BYTES:
        raise PayloadTooLargeError(
            f"The outputs take more than {_MAX_RESULT_BYTES} bytes together, too much for one workflow's history: "
            "let the agent store them and return their names, or start a MapWorkflow, which leaves them in nodes."
        )
