"""A worker that kills itself at a turn, once: `python -m perdure.testing._mortal ORDER`. Wiring for tests."""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from temporalio import activity
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import ActivityInboundInterceptor, ExecuteActivityInput, Interceptor, Worker

from perdure.contracts.names import CALL_MODEL
from perdure.plugin import PerdurePlugin
from perdure.project import load_app
from perdure.settings import Settings


class _Mortal(Interceptor):
    def __init__(self, turn: int, marker: Path) -> None:
        self.turn = turn
        self.marker = marker
        self.calls = 0

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:
        return _Inbound(next, self)


class _Inbound(ActivityInboundInterceptor):
    def __init__(self, next: ActivityInboundInterceptor, mortal: _Mortal) -> None:
        super().__init__(next)
        self._mortal = mortal

    async def execute_activity(self, input: ExecuteActivityInput) -> Any:
        result = await super().execute_activity(input)
        if activity.info().activity_type == CALL_MODEL and not self._mortal.marker.exists():
            self._mortal.calls += 1
            if self._mortal.calls == self._mortal.turn:
                self._mortal.marker.touch()
                os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))
        return result


async def main(order: dict[str, Any]) -> None:
    """Serve until killed."""
    settings = Settings.resolve().settings
    app = load_app(order["app"], settings.project_dir)
    client = await Client.connect(
        order["address"], data_converter=pydantic_data_converter, plugins=[PerdurePlugin(app, settings)]
    )
    mortal = _Mortal(order["turn"], Path(order["marker"]))
    async with Worker(client, task_queue=order["queue"], interceptors=[mortal]):
        print("ready", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
