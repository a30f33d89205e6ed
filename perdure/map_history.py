"""Reads what became of a map's items back from the Event History of its nodes. Client and activity side.

A node has the output of an item as the result of a child run, or, where the map was started again, as what the
activity `perdure.resume_run` found of an earlier one.
"""

from typing import Any

from temporalio.api.common.v1 import Payload
from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import Client
from temporalio.converter import DataConverter

from perdure.contracts.map import MapOutcome, MapPage
from perdure.contracts.names import RESUME_RUN
from perdure.contracts.rerun import ResumeRunRequest, ResumeRunResult
from perdure.contracts.run import RunResult
from perdure.errors import TaskFailed
from perdure.history import read_output


async def read_outcomes(client: Client, workflow_id: str, run_id: str) -> list[MapOutcome]:
    """Return what became of the items of a map's closed node, in order.

    Raises:
        RPCError: Temporal's; NOT_FOUND for an unknown run.
        WorkflowFailureError: The node did not complete.
        TaskFailed: Its history doesn't have them all. Not retryable.
    """
    handle = client.get_workflow_handle(workflow_id, run_id=run_id, result_type=MapPage)
    page: MapPage = await handle.result(follow_runs=False)
    if page.is_whole:
        return list(page.outcomes)
    known = {outcome.index: outcome for outcome in page.outcomes}
    reader = _NodeReader(client.data_converter)
    async for event in handle.fetch_history_events():
        await reader.read(event)
    for item, result in reader.results.items():
        output = result.output if result.output_slot is None else await read_output(client, item)
        index = int(_name(item))
        known[index] = MapOutcome(index=index, output=output)
    lacking = [index for index in range(page.start, page.start + page.count) if index not in known]
    if lacking:
        raise TaskFailed(
            f"{len(lacking)} of the {page.count} outcomes of {workflow_id!r} are not in its history; "
            f"the first is of item {lacking[0]}.",
            failure="OutcomesLost",
            workflow_id=workflow_id,
        )
    return [known[index] for index in sorted(known)]


class _NodeReader:
    """Takes in the history of a map's node.

    Attributes:
        results: Of the items that have one, by the workflow id of the item's run.
    """

    def __init__(self, converter: DataConverter) -> None:
        """Start with nothing read."""
        self.results: dict[str, RunResult] = {}
        self._converter = converter
        self._asked: dict[int, str] = {}
        """Workflow ids of runs that were started, or looked for, by the event that asked for it."""

    async def read(self, event: HistoryEvent) -> None:
        """Take an event in."""
        match event.event_type:
            case EventType.EVENT_TYPE_START_CHILD_WORKFLOW_EXECUTION_INITIATED:
                initiated = event.start_child_workflow_execution_initiated_event_attributes
                self._asked[event.event_id] = initiated.workflow_id
            case EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_COMPLETED:
                ended = event.child_workflow_execution_completed_event_attributes
                item = self._asked[ended.initiated_event_id]
                self.results[item] = await self._decode(ended.result.payloads, RunResult)
            case EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED:
                scheduled = event.activity_task_scheduled_event_attributes
                if scheduled.activity_type.name == RESUME_RUN:
                    request: ResumeRunRequest = await self._decode(scheduled.input.payloads, ResumeRunRequest)
                    self._asked[event.event_id] = request.run.workflow_id
            case EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED:
                completed = event.activity_task_completed_event_attributes
                item = self._asked.get(completed.scheduled_event_id, "")
                if _name(item).isdecimal():  # else it was asked for a node of before
                    found: ResumeRunResult = await self._decode(completed.result.payloads, ResumeRunResult)
                    if found.result is not None:
                        self.results[item] = RunResult.model_validate(found.result)
            case _:
                pass

    async def _decode(self, payloads: Any, kind: type[Any]) -> Any:
        first: list[Payload] = list(payloads)[:1]
        return (await self._converter.decode(first, [kind]))[0]


def _name(workflow_id: str) -> str:
    return workflow_id.rpartition("/")[2]
