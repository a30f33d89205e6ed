"""More messages than a run takes: refused at a bound, kept in order over a chain of runs, each once."""

import asyncio
import time
from datetime import timedelta
from typing import Any

import pytest
from temporalio.client import Client

from bench.flood import Flood, histories, in_order, until_idle
from perdure import Agent, App
from perdure.contracts.messages import Message
from perdure.contracts.steering import MAX_SENDS, MAX_WAITING, Session
from perdure.testing import ScriptedModel
from tests.support.workers import worker

COUNT = MAX_SENDS + 100


@pytest.mark.alone
async def test_a_flood(temporal: Client) -> None:
    """How long it takes is printed, and not asserted: that is the machine's."""
    gate = asyncio.Event()

    def script(request: Any, messages: list[Message]) -> str:
        gate.set()
        return "yes"

    model = ScriptedModel(script, delay_seconds=0.2)
    async with worker(App(agents=[Agent("a", model="scripted:x")], providers=[model]), temporal) as client:
        run = await client.start_agent("a", "go", session=Session(idle_timeout=timedelta(hours=1)))
        await gate.wait()
        flood, began = Flood(client, run.workflow_id), time.monotonic()
        await flood.send(COUNT)
        print(f"{COUNT} messages in {time.monotonic() - began:.1f} s, {flood.refused} refusals")
        await until_idle(client, run.workflow_id, read=COUNT)
        texts = [each.message.text for each in await client.transcript(run.workflow_id)]
        lengths = await histories(client, run.workflow_id, run.run_id)
    assert sum("." in text for text in texts) == COUNT
    assert in_order(texts)
    assert len(lengths) == 2, "it continued as new once"
    assert max(lengths) < 15_000
    assert MAX_WAITING < COUNT
