"""Record the open run that tests of the replay gate replay: `python -m tests.replay.record_own`."""

import asyncio
import json
import tempfile
from pathlib import Path
from typing import Any

from temporalio.client import Client
from temporalio.worker import Worker

from perdure import Agent, App
from perdure.devserver import DevServer
from perdure.plugin import PerdurePlugin
from perdure.settings import Settings
from perdure.testing import ScriptedModel
from tests.support.replay_workflows import Order, charge, notify, reserve

TARGET = Path(__file__).parent / "own" / "order.json"


async def main() -> None:
    """Run an order until it waits, and write its history without the names of this machine."""
    agent = Agent("clerk", model="scripted:x")
    app = App(agents=[agent], workflows=[Order], providers=[ScriptedModel(["ok"])])
    with tempfile.TemporaryDirectory() as state:
        async with DevServer(Path(state), port=0, ui_port=0, in_memory=True) as server:
            client = await Client.connect(
                server.address, identity="worker", plugins=[PerdurePlugin(app, Settings())]
            )
            async with Worker(client, task_queue="q", activities=[reserve, charge, notify]):
                handle = await client.start_workflow("Order", "x", id="order-1", task_queue="q")
                await asyncio.sleep(3)
                history = json.loads((await handle.fetch_history()).to_json())
    TARGET.write_text(json.dumps(_without_host(history), indent=2) + "\n")


def _without_host(value: Any) -> Any:
    """Return the same without the hosts in names of sticky Task Queues."""
    match value:
        case {"kind": "TASK_QUEUE_KIND_STICKY"}:
            return {**value, "name": "worker"}
        case dict():
            return {key: _without_host(each) for key, each in value.items()}
        case list():
            return [_without_host(each) for each in value]
        case _:
            return value


if __name__ == "__main__":
    asyncio.run(main())
