"""The nodes of a map's tree, as the workflow above them runs them. Workflow side."""

from collections.abc import Callable

from temporalio import workflow
from temporalio.exceptions import ChildWorkflowError, is_cancelled_exception
from temporalio.workflow import ChildWorkflowCancellationType, ParentClosePolicy

from perdure.contracts.budget import Amount
from perdure.contracts.map import MapInput, MapOutcome, MapPage, MapSlice, ReadPageRequest
from perdure.contracts.names import MAP_NODE
from perdure.contracts.rerun import ResumeRunRequest
from perdure.contracts.run import EarlierRun
from perdure.contracts.times import TASK_TIMEOUT
from perdure.contracts.usage import NO_USAGE, Usage
from perdure.errors import PerdureError, RunCancelled, RunTerminated, TaskFailed, revive
from perdure.workflows._calls import read_page, resume_run
from perdure.workflows._funding import inherit
from perdure.workflows._guard import typed_activity_failure
from perdure.workflows._host import current_host
from perdure.workflows._map_items import Progress, context_size, is_stopping, to_outcome, typed_failure
from perdure.workflows._map_slices import Slices, lane_windows
from perdure.workflows._outgoing import outgoing
from perdure.workflows._search_attributes import find_first_attributes
from perdure.workflows.gathering import gather

_LOST_PATCH = "perdure.lost-outcomes"
"""Maps of before there was this went on with whatever was read."""


class Nodes:
    """Runs a map as a tree: each node has a slice of the items and a share of the window.

    Attributes:
        pages: What the nodes that are over gave.
        progress: How many items are done, as far as nodes have told.
    """

    def __init__(
        self,
        request: MapInput,
        sizes: list[int],
        *,
        prefix: str,
        progress: Progress,
        on_page: Callable[[MapPage], None] | None = None,
    ) -> None:
        """Cut items of these sizes into slices; `on_page` may raise to end it all."""
        self.pages: list[MapPage] = []
        self.progress = progress
        self._request = request
        self._prefix = prefix
        self._on_page = on_page
        self._windows = lane_windows(len(sizes), request.max_parallel)
        self._slices = Slices(sizes, len(self._windows))
        self._sizes = sizes
        self._outgoing = outgoing()
        self._context = context_size(request)
        self._account = current_host().funds.account
        self._attributes: dict[str, str] | None = None

    async def run(self) -> list[MapPage]:
        """Run every node, and return their pages in order. Waits for every child, also after a failure.

        Raises:
            PerdureError: The first failure, where that ends it all.
        """
        request = self._request
        self._attributes = await find_first_attributes(request.agent, request.tenant, runs=len(self._sizes))
        await gather(*(self._lane(window) for window in self._windows))
        return sorted(self.pages, key=lambda page: page.start)

    async def _lane(self, window: int) -> None:
        while not is_stopping() and (bounds := self._slices.take(window)) is not None:
            start, stop = bounds
            page = await self._node(start, stop, window)
            self._slices.give_back(start + page.count, stop)
            self.pages.append(page)
            self.progress.done += page.count - page.failed
            self.progress.failed += page.failed
            if self._on_page is not None:
                self._on_page(page)

    async def _node(self, start: int, stop: int, window: int) -> MapPage:
        node_id = f"{self._prefix}/items-{start}-{stop - 1}"
        earlier, page = await self._find(start, stop, node_id)
        if page is not None:
            return page
        size = sum(self._sizes[start:stop])
        await self._outgoing.reserve(node_id, size + self._context, held=size)
        self.progress.nodes[node_id] = min(window, stop - start)
        settled: Amount | None = None
        try:
            given = await self._slice(start, stop, window, node_id)
            with current_host().child_runs.entered(node_id, self._request.agent) as note_run:
                handle = await workflow.start_child_workflow(
                    MAP_NODE,
                    given.model_copy(update={"earlier": earlier}),
                    id=node_id,
                    result_type=MapPage,
                    task_timeout=TASK_TIMEOUT,
                    cancellation_type=ChildWorkflowCancellationType.WAIT_CANCELLATION_COMPLETED,
                    parent_close_policy=ParentClosePolicy.REQUEST_CANCEL,
                    static_summary=f"{self._request.agent}: items {start} to {stop - 1}",
                )
                note_run(handle.first_execution_run_id or "")
                self._outgoing.arrived(node_id)
                if self._account is not None:
                    self._account.started(node_id)
                page = await handle
                settled = page.settled
                return page
        except ChildWorkflowError as error:
            if is_stopping():
                raise
            return self._lost(error, start, stop, node_id)
        finally:
            self._outgoing.ended(node_id)
            del self.progress.nodes[node_id]
            if self._account is not None and node_id in self._account.purse.book:
                self._account.close(node_id, settled)

    async def _find(self, start: int, stop: int, node_id: str) -> tuple[tuple[EarlierRun, ...], MapPage | None]:
        """Return the nodes of before that had some of these items; and the page, where one has done all."""
        while True:
            resets = await current_host().know_earlier()
            earlier, page = self._earlier(start, stop), None
            if len(earlier) == 1 and earlier[0].workflow_id == node_id:
                found = await resume_run(ResumeRunRequest(run=earlier[0]))
                page = None if found.result is None else MapPage.model_validate(found.result)
            if not current_host().is_reset_since(resets):
                return earlier, page

    async def _slice(self, start: int, stop: int, window: int, node_id: str) -> MapSlice:
        """Return what a node is given to do, and to spend."""
        changes: dict[str, object] = {"items": self._request.items[start:stop], "max_parallel": window}
        lease = None
        if self._account is not None:
            lease = await self._account.lend(node_id)
            changes["limits"] = inherit(self._request.limits, self._account.limits)
        share = self._request.model_copy(update=changes)
        return MapSlice(map=share, start=start, prefix=self._prefix, lease=lease, attributes=self._attributes)

    def _earlier(self, start: int, stop: int) -> tuple[EarlierRun, ...]:
        """Return the nodes of before that had some of these items: slices may be cut otherwise this time."""
        prefix = f"{self._prefix}/items-"
        found: list[EarlierRun] = []
        for run in current_host().earlier_under(prefix):
            first, last = map(int, run.workflow_id.removeprefix(prefix).split("-"))
            if first < stop and last >= start:
                found.append(run)
        return tuple(found)

    def _lost(self, error: ChildWorkflowError, start: int, stop: int, node_id: str) -> MapPage:
        """Return the failure of each item of a node that did not complete, or raise it."""
        failure = _node_failure(error, start, stop)
        if self._request.on_error == "fail":
            raise failure
        outcomes = tuple(to_outcome(index, failure) for index in range(start, stop))
        return MapPage(
            workflow_id=node_id,
            run_id="",
            start=start,
            count=stop - start,
            failed=stop - start,
            size=sum(len(each.to_bytes()) for each in outcomes),
            outcomes=outcomes,
        )


def _node_failure(error: ChildWorkflowError, start: int, stop: int) -> PerdureError:
    cause = revive(error.cause) if error.cause is not None else error
    if isinstance(cause, PerdureError):
        return cause
    if is_cancelled_exception(error):
        return RunCancelled(f"items {start} to {stop - 1}: their run was cancelled.")
    return RunTerminated(f"items {start} to {stop - 1}: their run was ended from outside.")


def total_usage(pages: list[MapPage]) -> Usage:
    """Return what all runs together used."""
    usage = NO_USAGE
    for page in pages:
        usage = usage + page.usage
    return usage


async def read_outcomes(page: MapPage) -> list[MapOutcome]:
    """Return all outcomes of a node, read from its run where they are not in the page.

    Raises:
        TaskFailed: Its history doesn't have them all. Not retryable.
    """
    outcomes = list(page.outcomes) if page.is_whole else []
    while len(outcomes) < page.count:
        start = page.start + len(outcomes)
        request = ReadPageRequest(workflow_id=page.workflow_id, run_id=page.run_id, start=start)
        with typed_activity_failure():
            found = (await read_page(request)).outcomes
        if [each.index for each in found] != list(range(start, start + max(len(found), 1))):
            _refuse(page, start)
        outcomes.extend(found)
    return outcomes


def _refuse(page: MapPage, start: int) -> None:
    """Fail for want of outcomes: else they would be at others' places, or be asked for without an end."""
    if workflow.patched(_LOST_PATCH):
        raise TaskFailed(
            f"The outcomes of {page.workflow_id!r} from item {start} on could not be read.",
            failure="OutcomesLost",
            workflow_id=page.workflow_id,
        )


def revived(outcome: MapOutcome) -> PerdureError | None:
    """Return the failure of an item as an exception; None when it has an output."""
    failure = outcome.failure
    return None if failure is None else typed_failure(failure.type, failure.message, failure.attributes or {})
