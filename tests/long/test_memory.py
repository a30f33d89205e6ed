"""What agents remember of a user: in later runs, after crashes, within bounds, and never in a run's way."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Worker

from perdure import Agent, App, Limits, memory_tools
from perdure.client import PerdureClient
from perdure.connection import connect
from perdure.contracts.memory import MemoryBatch, MemoryEntry, MemoryQuery, MemoryState, MemoryView, memory_id
from perdure.contracts.messages import Message, ToolResultPart
from perdure.contracts.names import MEMORY_QUERY, MEMORY_WORKFLOW, REMEMBER_SIGNAL
from perdure.devserver import DevServer
from perdure.errors import InvalidInputError, NoWorkerError
from perdure.testing import ScriptedModel, calls
from perdure.workflows.memory import Memory
from tests.support.workers import worker

TIME = timedelta(seconds=60)


def _script(request: Any, messages: list[Message]) -> Any:
    """Do the calls that the input is JSON of, in one turn, and answer with their results."""
    if len(messages) == 1:
        return calls(*((name, arguments) for name, arguments in json.loads(messages[0].text)))
    parts = [part for message in messages for part in message.parts if isinstance(part, ToolResultPart)]
    return "\n".join(getattr(part.content[0], "text", "") for part in parts)


def make_app(**options: Any) -> App:
    agent = Agent("clerk", model="scripted:x", tools=[*memory_tools(**options)], limits=Limits(max_turns=3))
    return App(agents=[agent], providers=[ScriptedModel(_script)])


@pytest.fixture(scope="module")
async def client(temporal: Client) -> AsyncIterator[PerdureClient]:
    async with worker(make_app(), temporal) as running:
        yield running


@pytest.fixture
def user() -> str:
    return f"ada/{uuid4().hex[:6]}"


async def tell(client: PerdureClient, *asked: tuple[str, dict[str, Any]], user: str = "", tenant: str = "") -> str:
    context = {"user": user} if user else None
    run = await client.start_agent("clerk", json.dumps(asked), context=context, tenant=tenant)
    return (await client.result(run.workflow_id, timeout=TIME)).output


def remember(text: str, **more: str) -> tuple[str, dict[str, Any]]:
    return "remember", {"text": text, **more}


def recall(query: str) -> tuple[str, dict[str, Any]]:
    return "recall", {"query": query}


async def test_a_later_run_recalls(client: PerdureClient, user: str) -> None:
    said = await tell(client, remember("Lives in Trondheim.", key="home"), remember("Likes fish."), user=user)
    assert said.splitlines()[0] == "Remembered as 'home'."
    assert json.loads(await tell(client, recall("where does she live, in which home?"), user=user)) == [
        {"key": "home", "text": "Lives in Trondheim.", "remembered": f"{datetime.now(UTC):%Y-%m-%d}"}
    ]
    await tell(client, remember("Lives in Oslo.", key="home"), user=user)
    found = (await client.memory.show(user)).entries
    assert [(each.key == "home", each.text, each.recalls) for each in found] == [
        (True, "Lives in Oslo.", 1),
        (False, "Likes fish.", 0),
    ]
    assert found[0].workflow_id.startswith("clerk-")
    assert found[0].expires_at is not None
    assert "Nothing is remembered" in await tell(client, recall("weather"), user=user)


async def test_nobody_elses(client: PerdureClient, user: str) -> None:
    await tell(client, remember("a secret"), user=user, tenant="one")
    for other in ({"user": user}, {"user": user, "tenant": "two"}, {"tenant": "one"}, {"user": "one"}):
        assert "Nothing is remembered" in await tell(client, recall("secret"), **other)
    assert "a secret" in await tell(client, recall("secret"), user=user, tenant="one")


async def test_a_tenants_own_memory(client: PerdureClient) -> None:
    tenant = f"t-{uuid4().hex[:6]}"
    await tell(client, remember("opens at nine"), tenant=tenant)
    assert "opens at nine" in await tell(client, recall("open"), tenant=tenant)
    assert [each.text for each in (await client.memory.show(tenant=tenant)).entries] == ["opens at nine"]


async def test_a_run_for_nobody_goes_on(client: PerdureClient) -> None:
    said = await tell(client, remember("x"), recall("x"))
    assert said.count("neither a user nor a tenant") == 2
    assert said.count("Go on without it.") == 2


async def test_what_cannot_be_remembered(client: PerdureClient, user: str) -> None:
    said = await tell(client, remember("x" * 5000), remember("  "), remember("x", key="k" * 200), user=user)
    assert "longer than 4000 bytes" in said
    assert "text is empty" in said
    assert "1 to 100 characters" in said
    assert (await client.memory.show(user)).entries == ()


async def test_it_is_bounded(temporal: Client, user: str) -> None:
    async with worker(make_app(max_bytes=8000, ttl=None), temporal) as client:
        for number in range(4):
            await tell(client, *(remember(f"{number}{n} " + "x" * 500) for n in range(5)), user=user)
        view = await client.memory.show(user)
    assert view.bytes <= view.max_bytes == 8000
    assert view.dropped == 20 - len(view.entries) > 0
    kept = {each.text[:2] for each in view.entries}
    assert kept >= {f"3{n}" for n in range(5)}
    assert not kept & {f"0{n}" for n in range(5)}
    assert view.entries[0].expires_at is None


async def test_what_is_forgotten_is_in_no_open_run(client: PerdureClient, user: str) -> None:
    await tell(client, remember("a secret", key="s"), remember("harmless", key="h"), user=user)
    handle = client.temporal.get_workflow_handle(memory_id(client.task_queue, tenant="", user=user))
    before = (await handle.describe()).run_id
    assert await client.memory.forget(user, keys=["s", "nothing"]) == ("s",)
    async with asyncio.timeout(20):
        while (await handle.describe()).run_id == before:
            await asyncio.sleep(0.05)
    assert "a secret" not in (await handle.fetch_history()).to_json()
    assert [each.key for each in (await client.memory.show(user)).entries] == ["h"]
    assert await client.memory.forget(user, is_all=True) == ("h",)
    assert await client.memory.forget("nobody", is_all=True) == ()
    with pytest.raises(InvalidInputError, match="either keys, or everything"):
        await client.memory.forget(user)
    with pytest.raises(InvalidInputError, match="Whose memory"):
        await client.memory.show()


async def test_a_call_that_comes_again_is_taken_once_and_nonsense_is_left_out(
    client: PerdureClient, user: str
) -> None:
    await tell(client, remember("one", key="k"), user=user)
    handle = client.temporal.get_workflow_handle(memory_id(client.task_queue, tenant="", user=user))
    batch = MemoryBatch(id="same", entries=(MemoryEntry(key="k", text="two", at=datetime.now(UTC)),))
    await handle.signal(REMEMBER_SIGNAL, batch)
    await tell(client, remember("three", key="k"), user=user)
    for nonsense in (batch, "nonsense", {"id": 3}):
        await handle.signal(REMEMBER_SIGNAL, nonsense)
    assert [each.text for each in (await client.memory.show(user)).entries] == ["three"]


async def test_it_outlives_workers_and_the_server(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder, queue = tmp_path_factory.mktemp("memory"), "memory"
    async with DevServer(folder, port=0, ui_port=0) as server:
        temporal = await connect(address=server.address)
        async with worker(make_app(), temporal, queue=queue) as client:
            await tell(client, remember("Lives in Trondheim."), user="ada")
    async with DevServer(folder, port=0, ui_port=0) as server:
        temporal = await connect(address=server.address)
        async with worker(make_app(), temporal, queue=queue) as client:
            assert "Trondheim" in await tell(client, recall("trondheim"), user="ada")
        with pytest.raises(NoWorkerError, match="start one with `perdure worker`"):
            await PerdureClient(temporal, task_queue=queue).memory.show("ada")


async def test_it_is_never_in_a_runs_way(temporal: Client, user: str) -> None:
    """The memory lives on a queue that no worker polls: the model is told so, within its patience."""
    async with worker(make_app(), temporal) as client:
        owner = memory_id(client.task_queue, tenant="", user=user)
        await temporal.start_workflow(MEMORY_WORKFLOW, MemoryState(), id=owner, task_queue="nobody-polls")
        said = await tell(client, recall("x"), remember("y"), user=user)
        await client.terminate(owner, reason="the test")
    assert said.splitlines() == [
        "Memory can't be reached: it did not answer within 2 s. Go on without it.",
        said.splitlines()[1],
    ]
    assert said.splitlines()[1].startswith("Remembered as"), "the server holds it until there is a worker"


async def test_what_expires_is_dropped_and_an_empty_memory_ends() -> None:
    """Thirty days, on the server that skips time."""
    binary = str(Path(sys.executable).with_name("temporal-test-server"))
    environment = await WorkflowEnvironment.start_time_skipping(
        test_server_existing_path=binary, data_converter=pydantic_data_converter
    )
    async with environment, Worker(environment.client, task_queue="m", workflows=[Memory]):
        now = await environment.get_current_time()
        entries = (
            MemoryEntry(key="short", text="a secret", at=now, expires_at=now + timedelta(days=30)),
            MemoryEntry(key="long", text="x", at=now, expires_at=now + timedelta(days=60)),
        )
        handle = await environment.client.start_workflow(
            MEMORY_WORKFLOW,
            MemoryState(),
            id="m",
            task_queue="m",
            start_signal=REMEMBER_SIGNAL,
            start_signal_args=[MemoryBatch(id="1", entries=entries)],
        )
        await environment.sleep(timedelta(days=31))
        view = await handle.query(MEMORY_QUERY, MemoryQuery(now=now), result_type=MemoryView)
        assert [each.key for each in view.entries] == ["long"]
        assert "a secret" not in (await environment.client.get_workflow_handle("m").fetch_history()).to_json()
        await environment.sleep(timedelta(days=29, hours=23))
        assert await _status(environment.client) is WorkflowExecutionStatus.RUNNING
        await environment.sleep(timedelta(days=2))
        assert await _status(environment.client) is WorkflowExecutionStatus.COMPLETED


async def _status(client: Client) -> WorkflowExecutionStatus | None:
    return (await client.get_workflow_handle("m").describe()).status
