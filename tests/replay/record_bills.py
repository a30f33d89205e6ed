"""Record histories of runs that write what they paid into their memo: `python -m tests.replay.record_bills`."""

import asyncio
import tempfile
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path

import perdure
from perdure.client import PerdureClient, StartedRun
from perdure.connection import connect
from perdure.devserver import DevServer
from tests.support.cost_app import PRICES, make_app
from tests.support.workers import worker

TIME = timedelta(seconds=60)
Write = Callable[[PerdureClient, StartedRun, str, Path], Awaitable[None]]


async def main(folder: Path, write: Write) -> None:
    """Run an agent whose second call its fallback answers, and a workflow of the user's own with inline agents."""
    with tempfile.TemporaryDirectory() as state:
        async with DevServer(Path(state), port=0, ui_port=0, in_memory=True) as server:
            temporal = await connect(address=server.address)
            async with worker(make_app(), temporal, prices=PRICES) as client:
                run = await client.start_agent("shaky", "go", id="replay-bill")
                await client.result(run.workflow_id, timeout=TIME)
                await write(client, run, "bill", folder)
                run = await client.start_workflow("Desk", [1, "done"], id="replay-bill-own", tenant="north")
                await client.result(run.workflow_id, timeout=TIME)
                await write(client, run, "bill-own", folder)


if __name__ == "__main__":
    from tests.replay.record import HISTORIES, record_chain

    asyncio.run(main(HISTORIES / perdure.__version__, record_chain))
