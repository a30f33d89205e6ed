"""`MapWorkflow`, an agent over many items, and `MapNode`, a node of any map's tree. Workflow side."""

from pydantic import ValidationError
from temporalio import workflow

from perdure.contracts.budget import Ledger
from perdure.contracts.map import MapInput, MapPage, MapResult, MapSlice
from perdure.contracts.names import MAP_NODE, MAP_WORKFLOW
from perdure.contracts.rerun import ResumeRunRequest
from perdure.errors import PerdureError
from perdure.workflows._calls import resume_run
from perdure.workflows._guard import typed_failures
from perdure.workflows._host import current_host
from perdure.workflows._map_items import MAX_NODE_BYTES, ItemRuns, Progress
from perdure.workflows._map_nodes import Nodes, total_usage
from perdure.workflows.mapping import item_sizes

_MAX_RESULT_BYTES = 1_000_000
_SETTLED_PATCH = "perdure.settled-ends"
"""Nodes that failed, or were cancelled, before there was this gave nothing back."""


@workflow.defn(name=MAP_NODE, sandboxed=False, failure_exception_types=[PerdureError, ValidationError])
class MapNode:
    """Runs an agent on a slice of a map's items."""

    @workflow.init
    def __init__(self, given: MapSlice) -> None:
        """Answer the query before the first item runs."""
        self._progress = Progress(len(given.map.items), self)

    @workflow.run
    async def run(self, given: MapSlice) -> MapPage:
        """Run them, and return what became of them, or where that is."""
        with typed_failures():
            funds = current_host().funds
            if given.lease is not None:
                funds.open_with(Ledger(lease=given.lease), given.map.limits)
                funds.reports_end = workflow.patched(_SETTLED_PATCH)
            for earlier in given.earlier:
                found = await resume_run(ResumeRunRequest(run=earlier, with_items=True))
                current_host().note_earlier(found.runs)
            runs = ItemRuns(given, self._progress, max_bytes=MAX_NODE_BYTES)
            await runs.run()
            funds.reports_end = False  # the page says it
            return runs.page()


@workflow.defn(name=MAP_WORKFLOW, sandboxed=False, failure_exception_types=[PerdureError, ValidationError])
class MapWorkflow:
    """Runs an agent on every item, as `map_agent` does; its result is a manifest when it is large."""

    @workflow.init
    def __init__(self, request: MapInput) -> None:
        """Answer the query before the first item runs."""
        self._progress = Progress(len(request.items), self)

    @workflow.run
    async def run(self, request: MapInput) -> MapResult:
        """Run to the end."""
        with typed_failures():
            sizes = item_sizes(request)
            nodes = Nodes(request, sizes, prefix=workflow.info().workflow_id, progress=self._progress)
            pages = await nodes.run() if sizes else []
            return self._result(request, pages)

    def _result(self, request: MapInput, pages: list[MapPage]) -> MapResult:
        manifest = MapResult(
            agent=request.agent,
            total=len(request.items),
            failed=sum(page.failed for page in pages),
            usage=total_usage(pages),
            pages=tuple(page.shortened() if page.run_id else page for page in pages),
        )
        if not all(page.is_whole for page in pages):
            return manifest
        outcomes = tuple(outcome for page in pages for outcome in page.outcomes)
        whole = manifest.model_copy(update={"outcomes": outcomes, "pages": ()})
        return whole if len(whole.to_bytes()) <= _MAX_RESULT_BYTES else manifest
