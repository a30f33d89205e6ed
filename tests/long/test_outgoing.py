"""However much a workflow begins at once, what leaves in one workflow task stays below what the server takes."""

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from temporalio.client import Client, WorkflowHistory
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import Replayer

from perdure.client import PerdureClient
from perdure.wiring import sandboxed_runner
from perdure.workflows.agent import AgentWorkflow
from perdure.workflows.interceptor import PerdureInterceptor
from tests.support.outgoing_app import COUNT, AtOnce, app
from tests.support.workers import worker

TIME = timedelta(seconds=100)


@pytest.fixture(scope="module")
async def client(temporal: Client) -> AsyncIterator[PerdureClient]:
    async with worker(app, temporal) as running:
        yield running


async def _replay(client: PerdureClient, workflow_id: str, run_id: str) -> WorkflowHistory:
    history = await client.temporal.get_workflow_handle(workflow_id, run_id=run_id).fetch_history()
    replayer = Replayer(
        workflows=[AgentWorkflow, AtOnce],
        interceptors=[PerdureInterceptor()],
        data_converter=pydantic_data_converter,
        workflow_runner=sandboxed_runner(),
    )
    await replayer.replay_workflow(history)
    return history


def _numbers(count: int) -> list[str]:
    return [str(number) for number in range(count)]


@pytest.mark.parametrize(
    ("what", "count"),
    [("runs", COUNT), ("inline", COUNT), ("tools", 4), ("local", 2 * COUNT), ("plan", COUNT), ("map", COUNT)],
)
async def test_a_workflow_begins_more_than_a_task_holds(client: PerdureClient, what: str, count: int) -> None:
    run = await client.start_workflow("AtOnce", [what])
    found = await client.result(run.workflow_id, timeout=TIME)
    assert found == _numbers(count) * (len(found) // count)
    await _replay(client, run.workflow_id, run.run_id)


@pytest.mark.parametrize("agent", ["reader", "wide", "narrow"])
@pytest.mark.parametrize(("tool", "count"), [("page", 24), ("book", 7)])
async def test_a_turn_reads_more_than_a_task_holds(
    client: PerdureClient, agent: str, tool: str, count: int
) -> None:
    """Results of local tools are recorded with the workflow task, whether they run at once or one by one."""
    run = await client.start_agent(agent, f"read {tool} {count}")
    result = await client.result(run.workflow_id, timeout=TIME)
    assert result.output.split() == _numbers(count)
    history = await _replay(client, run.workflow_id, run.run_id)
    sizes = [event.ByteSize() for event in history.events]
    assert sum(sizes) > 5_000_000


async def test_what_fits_costs_nothing(client: PerdureClient) -> None:
    run = await client.start_agent("reader", "read page 7")
    assert (await client.result(run.workflow_id, timeout=TIME)).output.split() == _numbers(7)
    events = (await _replay(client, run.workflow_id, run.run_id)).events
    markers = [
        event.marker_recorded_event_attributes.marker_name
        for event in events
        if event.HasField("marker_recorded_event_attributes")
    ]
    assert markers == ["core_local_activity"] * 8
    assert not any(event.HasField("timer_started_event_attributes") for event in events)
