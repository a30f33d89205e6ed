"""A worker that kills itself at a turn, once: `python -m perdure.testing._mortal ORDER`. Wiring for tests."""

import asyncio
import json
import os
import signal
import sys
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

from temporalio import activity
from temporalio.client import Interceptor as ClientInterceptor
from temporalio.worker import ActivityInboundInterceptor, ExecuteActivityInput, Interceptor

from perdure.connection import connect
from perdure.contracts.names import CALL_MODEL
from perdure.project import load_app
from perdure.settings import Settings
from perdure.worker import run_worker


class _Mortal(ClientInterceptor, Interceptor):
    """The client's, so that its workers have it too."""

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
    flags = {"task_queue": order["queue"], "heartbeat_timeout": timedelta(seconds=1)}  # to be missed soon
    settings = Settings.resolve(flags=flags).settings
    app = load_app(order["app"], settings.project_dir)
    mortal = _Mortal(order["turn"], Path(order["marker"]))
    client = await connect(address=order["address"], interceptors=[mortal])
    await run_worker(app, settings, client, stop=asyncio.Event(), on_ready=partial(print, "ready", flush=True))


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
