"""Messages to open runs: read at the next turn, in order, once; an interruption stops the call in flight."""

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from temporalio.client import Client

from perdure import Agent, App, Limits, ModelSettings, tool
from perdure.client import PerdureClient
from perdure.contracts.messages import Message
from perdure.contracts.run import RunStatus
from perdure.errors import InboxFullError, InvalidInputError, PayloadTooLargeError, RunNotFoundError
from tests.fakes.gated import Gated
from tests.fakes.replies import FakeCall, FakeReply
from tests.support.workers import worker

TIME = timedelta(seconds=30)


@tool(idempotent=True)
async def look() -> str:
    """Look."""
    return "seen"


@pytest.fixture(scope="module")
async def vendor() -> AsyncIterator[Gated]:
    async with Gated() as fake:
        yield fake


@pytest.fixture(scope="module")
async def client(vendor: Gated, temporal: Client) -> AsyncIterator[PerdureClient]:
    settings = ModelSettings(max_output_tokens=100)
    app = App(
        agents=[
            Agent("plain", model="fake:x", tools=[look], settings=settings),
            Agent("metered", model="fake:x", settings=settings, limits=Limits(max_total_tokens=20_000)),
            Agent("typed", model="fake:x", settings=settings, output=list[int]),
        ]
    )
    providers = {"fake": {"protocol": "openai", "base_url": f"{vendor.url}/v1"}}
    async with worker(app, temporal, providers=providers) as made:
        yield made


@pytest.fixture(autouse=True)
def _fresh(vendor: Gated) -> None:
    vendor.asked.clear()
    vendor.cut_at = 0.0


async def _messages(client: PerdureClient, id: str) -> list[Message]:
    return [entry.message for entry in await client.transcript(id)]


async def _status(client: PerdureClient, id: str) -> RunStatus:
    return RunStatus.model_validate(await client.query(id, "perdure.status"))


async def test_messages_are_read_at_the_next_turn(client: PerdureClient, vendor: Gated) -> None:
    """Not between a tool call and its result, and also after what would have been the answer."""
    id = (await client.start_agent("plain", "go")).workflow_id
    await vendor.until_asked(1)
    receipts = [await client.send(id, text, message_id=text) for text in ("one", "two", "one")]
    assert [(each.id, each.number, each.waiting) for each in receipts] == [
        ("one", 1, 1),
        ("two", 2, 2),
        ("one", 1, 1),
    ]
    assert (await _status(client, id)).waiting == 2
    vendor.replies.put_nowait(FakeReply(calls=(FakeCall("1", "look", "{}"),)))
    await vendor.until_asked(2)
    assert vendor.asked[1][-3:] == ["seen", "one", "two"]
    await client.send(id, "three " + "x" * 10_000)
    vendor.replies.put_nowait(FakeReply(text="no answer yet"))
    await vendor.until_asked(3)
    assert vendor.asked[2][-2:] == ["no answer yet", "three " + "x" * 10_000]
    vendor.replies.put_nowait(FakeReply(text="the answer"))
    assert (await client.result(id, timeout=TIME)).output == "the answer"
    texts = [message.text for message in await _messages(client, id) if message.role == "user"]
    assert [text[:5] for text in texts] == ["go", "one", "two", "three"]
    history = await client.temporal.get_workflow_handle(id).fetch_history()
    assert history.to_json().count("eHh4eHh4eHh4" * 50) <= 30, "the long message is recorded more than once"
    with pytest.raises(RunNotFoundError, match="closed"):
        await client.send(id, "late")


@pytest.mark.parametrize("agent", ["plain", "metered"])
async def test_an_interruption_stops_the_request(client: PerdureClient, vendor: Gated, agent: str) -> None:
    id = (await client.start_agent(agent, "go")).workflow_id
    await vendor.until_asked(1)
    vendor.replies.put_nowait("I think that this")
    await _until_text(client, id, "I think")
    sent_at = time.monotonic()
    await client.send(id, "no: do that", interrupt=True)
    await vendor.until_asked(2)
    print(f"the request was cut {vendor.cut_at - sent_at:.2f} s after the message was sent")
    assert 0 < vendor.cut_at - sent_at < 1
    assert vendor.asked[1][-2:] == ["I think that this", "no: do that"]
    spent = (await _status(client, id)).spent
    assert (spent is not None and spent.tokens > 100) == (agent == "metered"), "the worst case of the cut call"
    vendor.replies.put_nowait(FakeReply(text="done"))
    assert (await client.result(id, timeout=TIME)).output == "done"
    assert [(each.role, each.text, each.stop) for each in await _messages(client, id)][1:3] == [
        ("assistant", "I think that this", "interrupted"),
        ("user", "no: do that", None),
    ]


async def test_an_interruption_before_the_first_word(client: PerdureClient, vendor: Gated) -> None:
    id = (await client.start_agent("typed", "go")).workflow_id
    await vendor.until_asked(1)
    await client.send(id, "never mind", interrupt=True)
    vendor.replies.put_nowait("")  # for the request that was cut
    await vendor.until_asked(2)
    assert vendor.asked[1][-2:] == ["go", "never mind"]
    vendor.replies.put_nowait(FakeReply(text='{"value": [1]}'))
    assert (await client.result(id, timeout=TIME)).output == [1]


async def test_what_can_not_be_sent(client: PerdureClient, vendor: Gated) -> None:
    id = (await client.start_agent("plain", "go")).workflow_id
    await vendor.until_asked(1)
    with pytest.raises(PayloadTooLargeError, match="more than 250,000"):
        await client.send(id, "x" * 260_000)
    for _ in range(2):
        await client.send(id, "x" * 200_000)
    with pytest.raises(InboxFullError, match="Send it again after that turn"):
        await client.send(id, "x" * 200_000)
    for given, options in ((" ", {}), ("a", {"message_id": "a" * 65})):
        with pytest.raises(InvalidInputError):
            await client.send(id, given, **options)  # pyright: ignore[reportArgumentType]
    vendor.replies.put_nowait(FakeReply(text="first"))
    await vendor.until_asked(2)
    vendor.replies.put_nowait(FakeReply(text="second"))
    assert (await client.result(id, timeout=TIME)).output == "second"
    with pytest.raises(RunNotFoundError):
        await client.send("nothing", "x")


async def _until_text(client: PerdureClient, id: str, text: str) -> None:
    async with asyncio.timeout(30):
        while True:
            described: Any = await client.show(id)
            if any(each.progress is not None and text in each.progress.text for each in described.pending):
                return
            await asyncio.sleep(0.1)
