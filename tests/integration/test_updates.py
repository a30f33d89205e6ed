"""What a run is told while no worker is there: given up in time, and at once where the caller gives up."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from temporalio.client import Client

from perdure import Limits
from perdure.client import PerdureClient
from perdure.client._people import send_decision
from perdure.contracts.memory import MemoryState, memory_id
from perdure.contracts.names import MEMORY_WORKFLOW
from perdure.contracts.plan import PlanAmendment
from perdure.contracts.waits import Decider, DecideRequest
from perdure.errors import InvalidInputError, NoWorkerError, PayloadTooLargeError, RunNotFoundError

TIMEOUT = timedelta(seconds=1)
TOLD: dict[str, Callable[[PerdureClient, str], Awaitable[Any]]] = {
    "send": lambda client, id: client.send(id, "hello"),
    "decide": lambda client, id: send_decision(client.temporal, id, decision(), timeout=client.update_timeout),
    "update": lambda client, id: client.update(id, "rename", "x"),
    "limit": lambda client, id: client.set_limits(id, Limits(max_turns=3)),
    "amend": lambda client, id: client.amend_plan(id, PlanAmendment(drop=("a",))),
    "retry": lambda client, id: client.retry_task(id, "a"),
    "forget": lambda client, id: client.memory.forget("ada", is_all=True),
}


def decision() -> DecideRequest:
    return DecideRequest(wait="w", verdict="approve", by=Decider(name="ada", source="os_user"), id=uuid4().hex)


@pytest.fixture
def client(temporal: Client) -> PerdureClient:
    return PerdureClient(temporal, task_queue=f"nobody-{uuid4().hex[:8]}", update_timeout=TIMEOUT)


async def start(client: PerdureClient) -> str:
    """Start a run, and a memory, that nobody works on."""
    owner = memory_id(client.task_queue, tenant="", user="ada")
    await client.temporal.start_workflow(MEMORY_WORKFLOW, MemoryState(), id=owner, task_queue=client.task_queue)
    return (await client.start_agent("nobody", "x")).workflow_id


@pytest.mark.parametrize("tell", TOLD.values(), ids=list(TOLD))
async def test_no_worker_is_said_in_time(
    client: PerdureClient, tell: Callable[[PerdureClient, str], Awaitable[Any]]
) -> None:
    workflow_id, began = await start(client), time.monotonic()
    with pytest.raises(NoWorkerError, match="in time; start one with `perdure worker`"):
        await tell(client, workflow_id)
    assert 1 <= time.monotonic() - began < 3


@pytest.mark.parametrize("tell", TOLD.values(), ids=list(TOLD))
async def test_whoever_gives_up_is_let_go_at_once(
    temporal: Client, tell: Callable[[PerdureClient, str], Awaitable[Any]]
) -> None:
    client = PerdureClient(temporal, task_queue=f"nobody-{uuid4().hex[:8]}")
    workflow_id = await start(client)
    telling = asyncio.ensure_future(tell(client, workflow_id))
    await asyncio.sleep(0.3)
    began = time.monotonic()
    telling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await telling
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await tell(client, workflow_id)
    assert time.monotonic() - began < 2


async def test_a_message_without_a_worker_can_be_sent_again(client: PerdureClient) -> None:
    workflow_id = await start(client)
    with pytest.raises(NoWorkerError, match="Sent again as 'mine', it is not entered twice"):
        await client.send(workflow_id, "hello", message_id="mine")
    own = await client.start_workflow("Theirs", [])
    with pytest.raises(InvalidInputError, match="is a run of Theirs: messages go to runs of agents"):
        await client.send(own.workflow_id, "hello")


@pytest.mark.parametrize("name", ["send", "update"])
async def test_what_the_server_never_takes_is_not_sent_again(temporal: Client, name: str) -> None:
    client = PerdureClient(temporal, task_queue=f"nobody-{uuid4().hex[:8]}")
    workflow_id, text, began = await start(client), "x" * 5_000_000, time.monotonic()
    with pytest.raises(PayloadTooLargeError, match="too large for Temporal"):
        await (client.send(workflow_id, text) if name == "send" else client.update(workflow_id, "rename", text))
    assert time.monotonic() - began < 5


async def test_a_run_that_is_not_there_or_closed(client: PerdureClient) -> None:
    workflow_id = await start(client)
    await client.terminate(workflow_id, reason="over")
    for name in TOLD.keys() - {"forget"}:
        with pytest.raises(RunNotFoundError, match="There is no run"):
            await TOLD[name](client, f"no-{workflow_id}")
        with pytest.raises(RunNotFoundError, match="is closed"):
            await TOLD[name](client, workflow_id)
    await client.terminate(memory_id(client.task_queue, tenant="", user="ada"), reason="over")
    assert await client.memory.forget("ada", is_all=True) == ()


async def test_a_name_that_is_none(client: PerdureClient) -> None:
    """The run is there: it is what it is told that Temporal can't use."""
    workflow_id = await start(client)
    for told in (client.signal(workflow_id, ""), client.update(workflow_id, "")):
        with pytest.raises(InvalidInputError, match=r"can't do that with run '.*': .* is not set on request\."):
            await told
    with pytest.raises(InvalidInputError, match="can't answer '': QueryType is not set"):
        await client.query(workflow_id, "")
    with pytest.raises(RunNotFoundError, match="There is no run ''"):
        await client.show("")
