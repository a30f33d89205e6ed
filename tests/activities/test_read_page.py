"""Outcomes of a map, read page by page from the run of a node."""

from collections.abc import AsyncIterator, Mapping

import pytest
from temporalio.api.common.v1 import Payloads
from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.service import RPCError, RPCStatusCode

from perdure.contracts.map import MapFailure, MapOutcome, MapPage, ReadPageRequest
from perdure.contracts.names import RESUME_RUN
from perdure.contracts.rerun import ResumeRunRequest, ResumeRunResult
from perdure.contracts.run import EarlierRun, RunResult
from perdure.errors import TaskFailed
from tests.activities.conftest import MakeRig
from tests.activities.rig import Rig

RUN = ("map/items-10-14", "node-run")
FAILED = MapOutcome(index=11, failure=MapFailure(type="LimitExceeded", message="item 11: too far"))


class ClosedNode:
    """A Temporal client that knows one node: its result, and the ends of its children in whatever order.

    `kept` are outputs of runs that a node before it had started: it asked for them, and for that node.
    """

    data_converter = pydantic_data_converter

    def __init__(
        self, page: MapPage, outputs: Mapping[int, str], *, kept: Mapping[int, str] | None = None
    ) -> None:
        self._page = page
        self._outputs = outputs
        self._kept = kept or {}
        self.histories = 0

    def get_workflow_handle(self, workflow_id: str, *, run_id: str, result_type: type) -> "ClosedNode":
        assert result_type is MapPage
        if (workflow_id, run_id) != RUN:
            raise RPCError("no such run", RPCStatusCode.NOT_FOUND, b"")
        return self

    async def result(self, *, follow_runs: bool) -> MapPage:
        assert not follow_runs
        return self._page

    async def fetch_history_events(self) -> AsyncIterator[HistoryEvent]:
        self.histories += 1
        yield HistoryEvent(event_id=1, event_type=EventType.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED)
        if self._kept:
            before = EarlierRun(workflow_id="map/items-10-14", run_id="node-before")
            yield await self._asked(2, before)
            yield await self._found(2, ResumeRunResult(result=self._page.model_dump(mode="json"), runs=(before,)))
        for index in (*self._kept, *self._outputs):
            yield await self._asked(1000 + index, EarlierRun(workflow_id=f"map/{index}", run_id="r"))
        for index in self._outputs:
            yield await self._found(1000 + index, ResumeRunResult())  # it had failed, and goes on as a child
        for index, output in self._kept.items():
            result = RunResult(agent="a", output=output).model_dump(mode="json")
            yield await self._found(1000 + index, ResumeRunResult(result=result))
        for index in self._outputs:
            initiated = HistoryEvent(
                event_id=100 + index,
                event_type=EventType.EVENT_TYPE_START_CHILD_WORKFLOW_EXECUTION_INITIATED,
            )
            known = initiated.start_child_workflow_execution_initiated_event_attributes
            known.workflow_id = f"map/{index}"
            yield initiated
        for index, output in self._outputs.items():
            yield await self._completed(index, output)

    async def _completed(self, index: int, output: str) -> HistoryEvent:
        event = HistoryEvent(event_type=EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_COMPLETED)
        known = event.child_workflow_execution_completed_event_attributes
        known.initiated_event_id = 100 + index
        payloads = await self.data_converter.encode([RunResult(agent="a", output=output)])
        known.result.CopyFrom(Payloads(payloads=payloads))
        return event

    async def _asked(self, id: int, run: EarlierRun) -> HistoryEvent:
        event = HistoryEvent(event_id=id, event_type=EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED)
        known = event.activity_task_scheduled_event_attributes
        known.activity_type.name = RESUME_RUN
        known.input.CopyFrom(Payloads(payloads=await self.data_converter.encode([ResumeRunRequest(run=run)])))
        return event

    async def _found(self, id: int, result: ResumeRunResult) -> HistoryEvent:
        event = HistoryEvent(event_type=EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED)
        known = event.activity_task_completed_event_attributes
        known.scheduled_event_id = id
        known.result.CopyFrom(Payloads(payloads=await self.data_converter.encode([result])))
        return event


def _page(count: int, *outcomes: MapOutcome) -> MapPage:
    return MapPage(workflow_id=RUN[0], run_id=RUN[1], start=10, count=count, outcomes=outcomes)


async def _read(rig: Rig, node: ClosedNode, start: int, run_id: str = RUN[1]) -> list[MapOutcome]:
    request = ReadPageRequest(workflow_id=RUN[0], run_id=run_id, start=start)
    result = await rig.environment(client=node).run(rig.read_page, request)
    assert len(result.to_bytes()) < 1_100_000 or len(result.outcomes) == 1
    return list(result.outcomes)


async def test_a_result_that_has_all_outcomes_is_enough(make_rig: MakeRig) -> None:
    outcomes = [MapOutcome(index=index, output=f"o{index}") for index in (10, 11, 12)]
    node = ClosedNode(_page(3, *outcomes), {})
    assert await _read(make_rig(), node, 10) == outcomes
    assert await _read(make_rig(), node, 12) == outcomes[2:]
    assert node.histories == 0


async def test_outputs_come_from_the_history_of_the_node_and_failures_from_its_result(make_rig: MakeRig) -> None:
    node = ClosedNode(_page(4, FAILED), {13: "o13", 10: "o10", 12: "o12"})
    found = await _read(make_rig(), node, 10)
    assert [(each.index, each.output) for each in found] == [(10, "o10"), (11, None), (12, "o12"), (13, "o13")]
    assert found[1] == FAILED


async def test_what_was_kept_of_a_node_before_is_in_its_place(make_rig: MakeRig) -> None:
    node = ClosedNode(_page(5, FAILED), {14: "o14", 12: "o12"}, kept={13: "k13", 10: "k10"})
    found = await _read(make_rig(), node, 10)
    assert [each.output for each in found] == ["k10", None, "o12", "k13", "o14"]
    assert [each.output for each in await _read(make_rig(), node, 13)] == ["k13", "o14"]
    node = ClosedNode(_page(2), {}, kept={10: "k10", 11: "k11"})
    assert [each.output for each in await _read(make_rig(), node, 10)] == ["k10", "k11"]


async def test_outcomes_that_are_not_there_are_no_others(make_rig: MakeRig) -> None:
    with pytest.raises(TaskFailed, match=r"2 of the 5 outcomes of 'map/items-10-14' .* first is of item 12"):
        await _read(make_rig(), ClosedNode(_page(5, FAILED), {10: "o10", 14: "o14"}), 10)


async def test_a_page_holds_what_fits_and_the_next_one_goes_on(make_rig: MakeRig) -> None:
    outputs = {index: str(index) * 200_000 for index in (14, 12, 10, 13)}
    node = ClosedNode(_page(5, FAILED), outputs)
    rig = make_rig()
    pages: list[list[int]] = []
    start = 10
    while start < 15:
        found = await _read(rig, node, start)
        assert [each.output for each in found if each != FAILED] == [
            outputs[each.index] for each in found if each != FAILED
        ]
        pages.append([each.index for each in found])
        start = found[-1].index + 1
    assert pages == [[10, 11, 12], [13, 14]]


async def test_an_outcome_larger_than_a_page_comes_alone(make_rig: MakeRig) -> None:
    node = ClosedNode(_page(2), {10: "x" * 1_200_000, 11: "y"})
    assert [each.index for each in await _read(make_rig(), node, 10)] == [10]
    assert [each.index for each in await _read(make_rig(), node, 11)] == [11]


async def test_a_node_that_is_gone_is_an_error_that_may_pass(make_rig: MakeRig) -> None:
    with pytest.raises(RPCError, match="no such run"):
        await _read(make_rig(), ClosedNode(_page(0), {}), 10, run_id="another")
