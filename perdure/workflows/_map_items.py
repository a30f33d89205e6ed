"""Runs of an agent on items, so many at once, and what is known of them meanwhile. Workflow side."""

import asyncio
from typing import Any

from pydantic_core import to_json
from temporalio import workflow
from temporalio.exceptions import ApplicationError, FailureError, is_cancelled_exception

from perdure.contracts.budget import Amount
from perdure.contracts.map import MapFailure, MapInput, MapItem, MapOutcome, MapPage, MapProgress, MapSlice
from perdure.contracts.messages import ContentPart, TextPart
from perdure.contracts.names import MAP_QUERY
from perdure.contracts.run import RunInput, RunResult
from perdure.contracts.usage import NO_USAGE
from perdure.errors import PerdureError, RunCancelled, revive
from perdure.workflows._funding import run_funded
from perdure.workflows._host import current_host
from perdure.workflows._outgoing import outgoing
from perdure.workflows._search_attributes import typed_attributes
from perdure.workflows.gathering import gather, to_failure

MAX_NODE_BYTES = 2_000_000
"""A node that has more results than this leaves the rest of its items to another, with a history of its own."""

_MAX_INLINE_BYTES = 64_000
"""A page of more than this stays in the history of its node: the parent hears from a hundred of them."""
_LARGE_OUTPUT_BYTES = 600_000
"""For an output that is not in its run's result, a guess."""
_MAX_MESSAGE_CHARS = 500
_MAX_ATTRIBUTE_CHARS = 200
_ATTRIBUTE = "_perdure_maps"


class Progress:
    """Counts items of one map."""

    def __init__(self, total: int, owner: object) -> None:
        """Count from nothing, and answer the query `perdure.map` with the sum over the maps of `owner`.

        `owner` is the workflow's instance, which `workflow.instance()` doesn't know while it is made.
        """
        self.total = total
        self.done = 0
        self.failed = 0
        self.running = 0
        self.nodes: dict[str, int] = {}
        """Open nodes: workflow id and how many items they may have at work."""
        maps: list[Progress] | None = getattr(owner, _ATTRIBUTE, None)
        if maps is None:
            maps = []
            setattr(owner, _ATTRIBUTE, maps)
            workflow.set_query_handler(MAP_QUERY, lambda: _sum(maps))
        maps.append(self)


def _sum(maps: list[Progress]) -> MapProgress:
    return MapProgress(
        total=sum(each.total for each in maps),
        done=sum(each.done for each in maps),
        failed=sum(each.failed for each in maps),
        running=sum(each.running + sum(each.nodes.values()) for each in maps),
        nodes=tuple(node for each in maps for node in each.nodes),
    )


class ItemRuns:
    """Runs an agent on the items of a slice, in order, so many at once.

    Attributes:
        results: What became of each item that was begun, by its index in the whole.
        size: Bytes of the results.
    """

    def __init__(self, given: MapSlice, progress: Progress, *, max_bytes: int) -> None:
        """Begin no item once the results take more than `max_bytes`."""
        self.results: dict[int, RunResult | PerdureError] = {}
        self.size = 0
        self._given = given
        self._progress = progress
        self._max_bytes = max_bytes
        self._taken = 0
        self._outgoing = outgoing()
        self._attributes = typed_attributes(given.attributes)

    async def run(self) -> None:
        """Run to the end, or to the first failure where that ends it all. Waits for every child.

        Raises:
            PerdureError: The first failure, with the item's index.
        """
        width = min(self._given.map.max_parallel, len(self._given.map.items))
        await gather(*(self._work() for _ in range(width)))

    async def _work(self) -> None:
        while not is_stopping() and self.size <= self._max_bytes and self._taken < len(self._given.map.items):
            index = self._taken
            self._taken += 1
            await self._run(self._given.start + index, self._given.map.items[index])

    async def _run(self, index: int, item: MapItem) -> None:
        request = item_request(self._given.map, item)
        child_id = f"{self._given.prefix}/{index}"
        self._progress.running += 1
        try:
            size = len(request.to_bytes())
            await self._outgoing.reserve(child_id, size, held=size)
            account = current_host().funds.account
            result = await run_funded(request, account, workflow_id=child_id, attributes=self._attributes)
        except FailureError as error:
            if is_stopping():
                raise
            self._fail(index, item_failure(error, index, self._given.map.agent))
        else:
            self._progress.done += 1
            self.results[index] = result
            self.size += len(result.to_bytes()) if result.output_slot is None else _LARGE_OUTPUT_BYTES
        finally:
            self._outgoing.ended(child_id)
            self._progress.running -= 1

    def _fail(self, index: int, failure: PerdureError) -> None:
        self._progress.failed += 1
        if self._given.map.on_error == "fail":
            raise failure
        self.results[index] = failure
        self.size += _MAX_MESSAGE_CHARS

    def page(self) -> MapPage:
        """Return the results for the node above."""
        info = workflow.info()
        usage = NO_USAGE
        for result in self.results.values():
            if isinstance(result, RunResult):
                usage = usage + result.counters.usage
        is_short = self.size <= _MAX_INLINE_BYTES
        outcomes = [
            to_outcome(index, result)
            for index, result in sorted(self.results.items())
            if is_short or isinstance(result, PerdureError)
        ]
        return MapPage(
            workflow_id=info.workflow_id,
            run_id=info.run_id,
            start=self._given.start,
            count=len(self.results),
            failed=sum(isinstance(result, PerdureError) for result in self.results.values()),
            size=self.size,
            usage=usage,
            settled=_settled(),
            outcomes=tuple(outcomes),
        )


def _settled() -> Amount | None:
    account = current_host().funds.account
    return None if account is None else account.purse.settled


def is_stopping() -> bool:
    """Say whether the task that asks has been cancelled; a child that ended in spite of that changes nothing."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def context_size(request: MapInput) -> int:
    """Return how many bytes each run takes beyond its item."""
    return len(to_json(request.context))


def item_request(request: MapInput, item: MapItem) -> RunInput:
    """Return the input of the run for an item."""
    parts: tuple[ContentPart, ...] = (TextPart(text=item),) if isinstance(item, str) else item
    return RunInput(
        agent=request.agent,
        input=parts,
        limits=request.limits,
        context=request.context,
        tenant=request.tenant,
        depth=request.depth,
    )


def item_failure(error: BaseException, index: int, agent: str) -> PerdureError:
    """Return the typed failure of an item's run, with the item's index in its message and attributes."""
    if is_cancelled_exception(error):
        failure: PerdureError = RunCancelled(f"agent {agent!r}: its run was cancelled.")
    else:
        failure = to_failure(error)
    return typed_failure(
        failure.type or "TaskFailed",
        f"item {index}: {failure.message}",
        {**failure.attributes, "item": index, "agent": agent},
    )


def typed_failure(type_name: str, message: str, attributes: dict[str, Any]) -> PerdureError:
    """Return a failure of a type known by its name."""
    return to_failure(revive(ApplicationError(message, attributes, type=type_name, non_retryable=True)))


def to_outcome(index: int, result: RunResult | PerdureError) -> MapOutcome:
    """Return a result as data; of a failure as much as is short."""
    if isinstance(result, RunResult):
        return MapOutcome(index=index, output=result.output)
    short = {
        name: value
        for name, value in result.attributes.items()
        if value is None or isinstance(value, bool | int | float) or len(str(value)) <= _MAX_ATTRIBUTE_CHARS
    }
    message = result.message[:_MAX_MESSAGE_CHARS]
    return MapOutcome(
        index=index, failure=MapFailure(type=result.type or "", message=message, attributes=short or None)
    )
