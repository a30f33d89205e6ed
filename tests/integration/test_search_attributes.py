"""Search attributes of a run, on a real server: there from its start, and written by it only when they change."""

from temporalio.api.enums.v1 import EventType
from temporalio.client import Client

from perdure import Agent, App
from perdure.client import PerdureClient
from perdure.testing import ScriptedModel
from tests.support.workers import worker


def make_app() -> App:
    return App(agents=[Agent("clerk", model="scripted:x")], providers=[ScriptedModel(["done"])])


async def attributes_and_writes(client: PerdureClient, workflow_id: str) -> tuple[dict[str, object], list[int]]:
    """Return the attributes at the end, and the ids of the events that wrote any."""
    handle = client.temporal.get_workflow_handle(workflow_id)
    history = await handle.fetch_history()
    kind = EventType.EVENT_TYPE_UPSERT_WORKFLOW_SEARCH_ATTRIBUTES
    found = (await handle.describe()).typed_search_attributes
    values = {pair.key.name: pair.value for pair in found if pair.key.name.startswith("Perdure")}
    return values, [event.event_id for event in history.events if event.event_type == kind]


async def test_whoever_knows_the_agent_writes_them_with_the_start(temporal: Client) -> None:
    app = make_app()
    async with worker(app, temporal) as served:
        client = PerdureClient(temporal, task_queue=served.task_queue, registry=app.registry)
        run = await client.start_agent("clerk", "go", tenant="north")
        await client.result(run.workflow_id)
    values, writes = await attributes_and_writes(client, run.workflow_id)
    assert (
        values.items() >= {"PerdureAgent": "clerk", "PerdureModel": "scripted:x", "PerdureTenant": "north"}.items()
    )
    assert values["PerdureState"] == "completed"
    assert values["PerdureTurns"] == 1
    assert len(writes) == 1


async def test_the_run_adds_what_its_starter_did_not_know(temporal: Client) -> None:
    async with worker(make_app(), temporal) as served:
        client = PerdureClient(temporal, task_queue=served.task_queue)
        run = await client.start_agent("clerk", "go")
        await client.result(run.workflow_id)
    values, writes = await attributes_and_writes(client, run.workflow_id)
    assert values["PerdureModel"] == "scripted:x"
    assert len(writes) == 2
