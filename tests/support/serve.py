"""A worker in a process of its own: `python -m tests.support.serve ADDRESS QUEUE module:app SETTINGS_JSON`."""

import asyncio
import importlib
import json
import sys
from pathlib import Path
from typing import Any

from perdure.app import App
from perdure.connection import connect
from perdure.settings import Settings
from perdure.worker import new_event_loop, run_worker, stop_on_signals


async def serve(address: str, queue: str, app: App, settings: dict[str, Any]) -> None:
    stop = asyncio.Event()
    stop_on_signals(stop)
    await run_worker(
        app,
        Settings.model_validate({"task_queue": queue, "project_dir": Path.cwd(), **settings}),
        await connect(address=address),
        stop=stop,
        drain_client=await connect(address=address),
        on_ready=lambda: print("ready", flush=True),
    )


if __name__ == "__main__":
    module, _, attribute = sys.argv[3].partition(":")
    found: App = getattr(importlib.import_module(module), attribute)
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(serve(sys.argv[1], sys.argv[2], found, json.loads(sys.argv[4])))
